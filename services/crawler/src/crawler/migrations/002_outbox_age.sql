-- How long an event has been waiting, for those who watch.
ALTER TABLE outbox ADD COLUMN created_at timestamptz NOT NULL DEFAULT now();
