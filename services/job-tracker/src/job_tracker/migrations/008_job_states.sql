-- A job without what was asked for, which can be a megabyte: for lists of many jobs.
CREATE VIEW job_states AS
SELECT
    job_id, created_at, listed_at, idempotency_key, request_hash, name, '[]'::jsonb AS seeds, '{}'::jsonb AS options, status,
    start_confirmed, revision, document_count, pending, running, completed, failed, skipped, cancelled, crawler_pages,
    started_at, finished_at, updated_at, error, announced, stalled_since, deleted_at, has_remains, change_revision,
    change_confirmed, retry_of
FROM jobs;
