-- When a deleted job was created: whoever has listed the jobs up to it goes on from there.
ALTER TABLE jobs ADD COLUMN listed_at timestamptz;

-- The jobs whose failed pages and URLs a live job needs, since it retries them, or one that retried them.
CREATE VIEW retried_jobs AS
WITH RECURSIVE retried AS (
    SELECT retry_of AS job_id FROM jobs WHERE created_at IS NOT NULL AND finished_at IS NULL AND retry_of IS NOT NULL
    UNION
    SELECT jobs.retry_of FROM retried JOIN jobs USING (job_id) WHERE jobs.retry_of IS NOT NULL
)
SELECT job_id FROM retried;
