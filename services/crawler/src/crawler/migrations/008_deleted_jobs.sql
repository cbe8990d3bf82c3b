-- Deleted, but some of its rows in other tables are still there: they go in the background. The job's own row stays, so
-- that a start that comes late can't bring it back.
ALTER TABLE jobs ADD COLUMN has_remains boolean NOT NULL DEFAULT false;
CREATE INDEX jobs_with_remains ON jobs (job_id) WHERE has_remains;

-- Which jobs have a document: the last of them takes it along.
CREATE INDEX job_documents_by_document ON job_documents (document_id);
