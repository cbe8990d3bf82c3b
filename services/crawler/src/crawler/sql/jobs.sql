-- name: renew_pace
-- Let a job send its requests by a delay that is $2 longer, or shorter, than that which held when the last were reserved.
WITH pace AS (UPDATE paces SET next_fetch_at = greatest(now(), next_fetch_at + $2::interval) WHERE job_id = $1)
UPDATE lanes SET due_at = least(due_at, now()) WHERE job_id = $1

-- name: start_job
-- Store a job's rules, once; those of a change that came first stay. Returns its status, which a command that came first may
-- have set; none when it was started.
INSERT INTO jobs (job_id, status, started, revision, options, sites, level, retry_of, retry_after)
VALUES ($1, 'running', true, $2, $3::jsonb, $4, $5, $6, $7)
ON CONFLICT (job_id) DO UPDATE SET
    started = true, sites = excluded.sites, level = excluded.level, retry_of = excluded.retry_of,
    retry_after = excluded.retry_after,
    options = CASE WHEN jobs.options_revision > $2 THEN jobs.options ELSE excluded.options END
WHERE NOT jobs.started
RETURNING status

-- name: get_retried
-- The sites of the job that is to be retried, and the jobs that it retried itself.
SELECT sites, retry_of FROM jobs WHERE job_id = $1

-- name: set_status
-- Obey a command unless a newer one was obeyed or the job is cancelled; a cancel is for ever, and so never too old.
INSERT INTO jobs (job_id, status, revision, closing) VALUES ($1, $2, $3, $2 = 'cancelled')
ON CONFLICT (job_id) DO UPDATE SET
    status = excluded.status, revision = excluded.revision, closing = jobs.closing OR excluded.closing
WHERE jobs.status <> 'cancelled' AND (jobs.revision < excluded.revision OR excluded.status = 'cancelled')

-- name: change_options
-- Give a job other rules unless newer ones were given. Returns whether it did.
INSERT INTO jobs (job_id, status, revision, options, options_revision) VALUES ($1, 'running', 0, $3::jsonb, $2)
ON CONFLICT (job_id) DO UPDATE SET options = excluded.options, options_revision = excluded.options_revision
WHERE jobs.options_revision < excluded.options_revision
RETURNING true

-- name: note_closed
-- Take the places of $2 closed pages from a job, and say whether more are left to be closed.
UPDATE jobs SET admitted = admitted - $2, closing = $3 WHERE job_id = $1

-- name: list_closing
-- The jobs whose last pages are being closed.
SELECT job_id FROM jobs WHERE closing ORDER BY job_id

-- name: list_halted
-- Of the jobs $1, those of which nothing may be fetched now.
SELECT job_id FROM jobs WHERE job_id = ANY($1::uuid[]) AND (status <> 'running' OR closing)

-- name: remove_pages
-- Close up to $2 pages of a job that is being closed. The job is locked. Returns them.
DELETE FROM queue
WHERE (job_id, origin, slot, depth, seq) IN (
    SELECT job_id, origin, slot, depth, seq FROM queue WHERE job_id = $1 LIMIT $2
)
RETURNING page_id, url, depth, is_list

-- name: note_failed
-- Remember pages that failed.
INSERT INTO failed_pages (job_id, page_id, url, depth, is_list)
SELECT *
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::int[], $5::boolean[]) AS page (job_id, page_id, url, depth, is_list)
ORDER BY job_id, page_id

-- name: list_failed
-- The pages of a job that failed after page $2, by id.
SELECT page_id, url, depth, is_list FROM failed_pages WHERE job_id = $1 AND page_id > $2 ORDER BY page_id LIMIT $3

-- name: forget_lanes
-- Drop the lanes of a job without pages. URLs that wait for a place stay: they are where the crawl did not get to.
WITH pace AS (DELETE FROM paces WHERE job_id = $1)
DELETE FROM lanes WHERE job_id = $1

-- name: forget_hosts
-- Drop the pages of hosts in a job that never goes on.
DELETE FROM job_hosts WHERE job_id = $1

-- name: delete_job
-- Make a job one that is never started again, and leave what it consists of to be forgotten in the background.
INSERT INTO jobs (job_id, status, started, revision, has_remains) VALUES ($1, 'cancelled', true, $2, true)
ON CONFLICT (job_id) DO UPDATE SET
    status = 'cancelled', started = true, revision = greatest(jobs.revision, excluded.revision), has_remains = true,
    options = '{}', sites = '{}', closing = false, retry_after = NULL

-- name: lock_remains
-- A deleted job that still has rows; of several crawlers, each takes another.
SELECT job_id FROM jobs WHERE has_remains LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: forget_job_documents
-- Take up to $2 documents from a job. Returns their ids.
DELETE FROM job_documents
WHERE job_id = $1
    AND document_id = ANY (
        ARRAY(SELECT document_id FROM job_documents WHERE job_id = $1 ORDER BY document_id LIMIT $2)
    )
RETURNING document_id

-- name: lock_documents
-- Lock documents in the order in which they are saved, so that whoever saves one at the same time has noted its job, or
-- will save it anew.
SELECT FROM documents WHERE document_id = ANY($1::uuid[]) ORDER BY document_id FOR UPDATE

-- name: delete_orphans
-- Delete those of the locked documents $1 that no job has any more. A statement of its own: it must see what those who
-- held a lock before have committed.
DELETE FROM documents
WHERE document_id = ANY($1::uuid[])
    AND NOT EXISTS (SELECT FROM job_documents WHERE job_documents.document_id = documents.document_id)

-- name: forget_seen
-- Forget up to $2 URLs of a job.
DELETE FROM seen
WHERE job_id = $1 AND page_id = ANY (ARRAY(SELECT page_id FROM seen WHERE job_id = $1 LIMIT $2))

-- name: forget_waiting_urls
-- Forget up to $2 URLs of a job that wait for a place.
DELETE FROM waiting WHERE job_id = $1 AND seq = ANY (ARRAY(SELECT seq FROM waiting WHERE job_id = $1 LIMIT $2))

-- name: mark_deleted
-- Nothing is left of a deleted job but its row.
UPDATE jobs SET has_remains = false WHERE job_id = $1

-- name: forget_pages
-- Forget up to $2 pages of a job that are still to be fetched.
DELETE FROM queue
WHERE (job_id, origin, slot, depth, seq) IN (
    SELECT job_id, origin, slot, depth, seq FROM queue WHERE job_id = $1 LIMIT $2
)

-- name: forget_failed
-- Forget up to $2 pages of a job that failed.
DELETE FROM failed_pages
WHERE job_id = $1 AND page_id = ANY (ARRAY(SELECT page_id FROM failed_pages WHERE job_id = $1 LIMIT $2))
