-- When a job was deleted. Its row stays, without what was asked for and without created_at, so that it is listed nowhere,
-- and so that an event that comes late can't bring it back.
ALTER TABLE jobs ADD COLUMN deleted_at timestamptz;

-- Deleted, but some of its rows in other tables are still there: they go in the background.
ALTER TABLE jobs ADD COLUMN has_remains boolean NOT NULL DEFAULT false;
CREATE INDEX jobs_with_remains ON jobs (deleted_at) WHERE has_remains;

-- For the retention time.
CREATE INDEX jobs_ended ON jobs (finished_at) WHERE created_at IS NOT NULL AND finished_at IS NOT NULL;
