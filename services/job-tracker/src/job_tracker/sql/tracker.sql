-- name: create_placeholders
-- Make sure that every job has a row to lock, also one whose events came before its creation.
INSERT INTO jobs (job_id) SELECT unnest($1::uuid[]) ON CONFLICT (job_id) DO NOTHING

-- name: lock_jobs
-- Lock jobs in the order of their ids, before anything of theirs is touched. Returns their rows; none, and none is locked,
-- when one is missing: whoever held the others while it waits for that one's row could be waited for in turn.
SELECT * FROM jobs
WHERE job_id = ANY($1::uuid[]) AND (SELECT count(*) FROM jobs WHERE job_id = ANY($1::uuid[])) = cardinality($1::uuid[])
ORDER BY job_id FOR UPDATE

-- name: add_documents
-- Insert the documents of a batch that their job has not counted yet, numbered after its last one. The jobs are locked.
-- Returns, for each job, how many it counted anew, and the ids of those that it knew.
-- The look-up is a subquery because it can only use the index: a join could be planned to read the whole table.
WITH incoming AS MATERIALIZED (
    SELECT document.*, (
        SELECT true FROM job_documents AS known
        WHERE known.parent_job_id = document.parent_job_id AND known.document_id = document.document_id
    ) AS is_known
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::float8[])
    WITH ORDINALITY AS document (
        parent_job_id, document_id, page_id, source_url, title, content_hash, change, saved_at, position
    )
), added AS (
    INSERT INTO job_documents (
        parent_job_id, document_id, ordinal, page_id, source_url, title, content_hash, change, saved_at
    )
    SELECT
        parent_job_id, document_id,
        (SELECT document_count FROM jobs WHERE job_id = parent_job_id)
            + row_number() OVER (PARTITION BY parent_job_id ORDER BY position),
        page_id, source_url, title, content_hash, change, to_timestamp(saved_at)
    FROM incoming WHERE is_known IS NULL
)
SELECT
    parent_job_id AS job_id, count(*) FILTER (WHERE is_known IS NULL) AS counted,
    array_agg(document_id) FILTER (WHERE is_known) AS known
FROM incoming GROUP BY parent_job_id

-- name: describe_documents
-- Complete documents that only `page.finished` had named, and renew those that were saved again. The jobs are locked.
-- Every row is there, so that each insert becomes an update: the same look-up by the index, as add_documents has it.
INSERT INTO job_documents AS known (
    parent_job_id, document_id, ordinal, page_id, source_url, title, content_hash, change, saved_at
)
SELECT parent_job_id, document_id, 0, page_id, source_url, title, content_hash, change, to_timestamp(saved_at)
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::float8[])
AS document (parent_job_id, document_id, page_id, source_url, title, content_hash, change, saved_at)
ON CONFLICT (parent_job_id, document_id) DO UPDATE SET
    page_id = excluded.page_id, source_url = excluded.source_url, title = excluded.title,
    content_hash = excluded.content_hash, change = excluded.change, saved_at = excluded.saved_at
WHERE known.content_hash IS NULL OR known.saved_at < excluded.saved_at

-- name: advance_pages
-- Insert pages, or move them forward: pending < running < terminal, never back and never on from terminal.
-- The jobs are locked. Returns, for each job, how many pages went from which state (null: not known) to which.
-- The look-up is a subquery for the same reason as in add_documents.
WITH incoming AS MATERIALIZED (
    SELECT page.*, (
        SELECT known.state FROM pages AS known
        WHERE known.parent_job_id = page.parent_job_id AND known.page_id = page.page_id
    ) AS was
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::smallint[], $4::text[], $5::int[], $6::text[], $7::int[], $8::uuid[], $9::text[],
        $10::timestamptz[]
    ) AS page (
        parent_job_id, page_id, state, url, depth, reason, status_code, document_id, skipped_links, finished_at
    )
), upserted AS (
    INSERT INTO pages AS known (
        parent_job_id, page_id, state, url, depth, reason, status_code, document_id, skipped_links, finished_at,
        changed_at
    )
    SELECT
        parent_job_id, page_id, state, url, depth, reason, status_code, document_id, skipped_links::jsonb, finished_at,
        $11
    FROM incoming ORDER BY parent_job_id, page_id
    ON CONFLICT (parent_job_id, page_id) DO UPDATE SET
        state = CASE WHEN known.state < 2 THEN greatest(known.state, excluded.state) ELSE known.state END,
        url = coalesce(known.url, excluded.url),
        depth = coalesce(known.depth, excluded.depth),
        reason = coalesce(known.reason, excluded.reason),
        status_code = coalesce(known.status_code, excluded.status_code),
        document_id = coalesce(known.document_id, excluded.document_id),
        skipped_links = coalesce(known.skipped_links, excluded.skipped_links),
        finished_at = coalesce(known.finished_at, excluded.finished_at),
        changed_at = CASE WHEN known.state < excluded.state THEN excluded.changed_at ELSE known.changed_at END
    WHERE (known.state < 2 AND known.state < excluded.state) OR (known.url IS NULL AND excluded.url IS NOT NULL)
)
SELECT parent_job_id AS job_id, was, state AS is, count(*) AS pages
FROM incoming WHERE was IS NULL OR (was < 2 AND was < state)
GROUP BY parent_job_id, was, state

-- name: advance_jobs
-- Add what a batch changed to the counters of its jobs, and set what the rules decided. The jobs are locked.
-- Returns the rows of the jobs that changed.
WITH step AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS step (
        job_id uuid, documents bigint, pending bigint, running bigint, completed bigint, failed bigint, skipped bigint,
        cancelled bigint, status text, start_confirmed boolean, crawler_pages bigint,
        change_confirmed bigint, started_at timestamptz, finished_at timestamptz, error text
    )
)
UPDATE jobs SET
    document_count = jobs.document_count + step.documents,
    pending = jobs.pending + step.pending,
    running = jobs.running + step.running,
    completed = jobs.completed + step.completed,
    failed = jobs.failed + step.failed,
    skipped = jobs.skipped + step.skipped,
    cancelled = jobs.cancelled + step.cancelled,
    status = step.status,
    start_confirmed = step.start_confirmed,
    crawler_pages = greatest(jobs.crawler_pages, step.crawler_pages),
    change_confirmed = greatest(jobs.change_confirmed, step.change_confirmed),
    started_at = step.started_at,
    finished_at = step.finished_at,
    error = step.error,
    stalled_since = NULL,
    revision = jobs.revision + 1,
    updated_at = $2
FROM step WHERE jobs.job_id = step.job_id
RETURNING jobs.*

-- name: find_by_idempotency_key
-- The job that was created with this key, locked.
SELECT * FROM jobs WHERE idempotency_key = $1 FOR UPDATE

-- name: lock_idempotency_key
-- Let one creation with this key at a time look and insert.
SELECT pg_advisory_xact_lock(hashtextextended($1, 0))

-- name: create_job
-- Create a job, or fill its placeholder. Returns its row; none when the job was created before.
INSERT INTO jobs (
    job_id, created_at, idempotency_key, request_hash, name, seeds, options, retry_of, revision, updated_at
)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8, 1, $2)
ON CONFLICT (job_id) DO UPDATE SET
    created_at = excluded.created_at, idempotency_key = excluded.idempotency_key, request_hash = excluded.request_hash,
    name = excluded.name, seeds = excluded.seeds, options = excluded.options, retry_of = excluded.retry_of,
    revision = jobs.revision + 1, updated_at = excluded.updated_at
WHERE jobs.created_at IS NULL AND jobs.deleted_at IS NULL
RETURNING *

-- name: set_options
-- Write the options of a locked job; the crawler is to confirm those of revision $3.
UPDATE jobs SET options = $2::jsonb, change_revision = $3 WHERE job_id = $1

-- name: get_job
-- One job as it was submitted and stands now.
SELECT * FROM jobs WHERE job_id = $1 AND created_at IS NOT NULL

-- name: list_jobs
-- The jobs created before job $1 (all when null), the newest first. That one may be deleted meanwhile.
SELECT * FROM job_states
WHERE created_at IS NOT NULL
    AND ($1::uuid IS NULL
        OR (created_at, job_id) < (SELECT coalesce(created_at, listed_at), job_id FROM jobs WHERE job_id = $1))
ORDER BY created_at DESC, job_id DESC LIMIT $2

-- name: list_live_jobs
-- The jobs that are not terminal, as list_jobs.
SELECT * FROM job_states
WHERE created_at IS NOT NULL AND finished_at IS NULL
    AND ($1::uuid IS NULL
        OR (created_at, job_id) < (SELECT coalesce(created_at, listed_at), job_id FROM jobs WHERE job_id = $1))
ORDER BY created_at DESC, job_id DESC LIMIT $2

-- name: was_created
-- Whether a job exists, or did before it was deleted.
SELECT EXISTS (SELECT FROM jobs WHERE job_id = $1 AND coalesce(created_at, listed_at) IS NOT NULL)

-- name: list_documents
-- The documents of a job after ordinal $2, in the order in which they were counted.
SELECT document_id, ordinal, page_id, source_url, title, content_hash, change, saved_at
FROM job_documents WHERE parent_job_id = $1 AND ordinal > $2 ORDER BY ordinal LIMIT $3

-- name: list_pages
-- The pages of a job in one of the states $3 after page $2, by id.
SELECT page_id, url, depth, state, reason, status_code, document_id, finished_at
FROM pages WHERE parent_job_id = $1 AND page_id > $2 AND state = ANY($3::smallint[])
ORDER BY page_id LIMIT $4

-- name: list_pages_for
-- Those of them with reason $5: a query of its own, since a plan that was made for the rare ones is kept for all.
SELECT page_id, url, depth, state, reason, status_code, document_id, finished_at
FROM pages WHERE parent_job_id = $1 AND page_id > $2 AND state = ANY($3::smallint[]) AND reason = $5
ORDER BY page_id LIMIT $4

-- name: pages_by_reason
-- How many pages of a job are in which state for which reason, the most frequent first. One row is a state and a reason.
SELECT state, reason, count(*) AS pages FROM pages
WHERE parent_job_id = $1 GROUP BY state, reason ORDER BY count(*) DESC, state, reason LIMIT 5000

-- name: sample_documents
-- When documents of a job were saved: at most $2 + 1 of them, at equal steps of their ordinal, the first and the last among
-- them. They are looked up one by one, so that it costs the same however many there are.
WITH last AS (SELECT max(ordinal) AS ordinal FROM job_documents WHERE parent_job_id = $1),
wanted AS (
    SELECT DISTINCT 1 + (last.ordinal - 1) * step / $2 AS ordinal FROM last, generate_series(0, $2::bigint) AS step
)
SELECT found.ordinal, found.saved_at FROM wanted, LATERAL (
    SELECT ordinal, saved_at FROM job_documents WHERE parent_job_id = $1 AND ordinal = wanted.ordinal LIMIT 1
) AS found ORDER BY found.ordinal

-- name: failure_reasons
-- Why pages of a job gave no document, the most frequent reasons first. One row is a reason.
SELECT reason, count(*) AS pages FROM pages
WHERE parent_job_id = $1 AND state IN (3, 4) GROUP BY reason ORDER BY count(*) DESC, reason LIMIT 3

-- name: unannounced_jobs
-- The terminal jobs whose last state may not have reached the broker.
SELECT * FROM job_states WHERE finished_at IS NOT NULL AND NOT announced AND deleted_at IS NULL LIMIT 1000

-- name: mark_announced
-- Remember that the terminal states of these jobs have reached the broker.
UPDATE jobs SET announced = true WHERE job_id = ANY($1::uuid[]) AND finished_at IS NOT NULL

-- name: live_jobs
-- Every job that is not terminal, to publish its state after a start.
SELECT * FROM job_states WHERE created_at IS NOT NULL AND finished_at IS NULL

-- name: report_silent_jobs
-- Mark the live jobs that have not changed since $1, each once a silence; one that is locked is changing. Only live jobs
-- are looked at (index jobs_live). Returns their rows.
WITH silent AS (
    SELECT job_id FROM jobs
    WHERE created_at IS NOT NULL AND finished_at IS NULL
        AND status <> 'paused' AND stalled_since IS NULL AND updated_at < $1
    ORDER BY job_id FOR UPDATE SKIP LOCKED
)
UPDATE jobs SET stalled_since = updated_at, revision = revision + 1, updated_at = $2
FROM silent WHERE jobs.job_id = silent.job_id
RETURNING jobs.*

-- name: waiting_pages
-- Some of the pages that a job waits for: running ones first, and those that wait longest.
SELECT page_id, url, state, changed_at AS since FROM pages
WHERE parent_job_id = $1 AND state < 2
ORDER BY state DESC, changed_at, page_id LIMIT 20

-- name: mark_deleted
-- Make a locked job one that is listed nowhere, and leave what it consists of to be deleted in the background.
UPDATE jobs SET
    deleted_at = $2, has_remains = true, listed_at = created_at, created_at = NULL, idempotency_key = NULL,
    request_hash = NULL, name = '', seeds = '[]', options = '{}', error = NULL, stalled_since = NULL, revision = revision + 1, updated_at = $2
WHERE job_id = $1
RETURNING revision

-- name: ended_jobs
-- Up to $2 jobs that ended before $1, those that ended first.
SELECT job_id FROM jobs
WHERE created_at IS NOT NULL AND finished_at IS NOT NULL AND finished_at < $1
    AND job_id NOT IN (SELECT job_id FROM retried_jobs)
ORDER BY finished_at LIMIT $2

-- name: is_retried
-- Whether a live job needs the pages of job $1.
SELECT EXISTS (SELECT FROM retried_jobs WHERE job_id = $1)

-- name: lock_remains
-- The deleted job whose turn it is to lose some of its rows; of several trackers, each takes another.
SELECT job_id FROM jobs WHERE has_remains ORDER BY deleted_at LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: delete_pages
-- Delete up to $2 pages of a job.
DELETE FROM pages
WHERE parent_job_id = $1 AND page_id = ANY (ARRAY(SELECT page_id FROM pages WHERE parent_job_id = $1 LIMIT $2))

-- name: delete_documents
-- Delete up to $2 documents of a job.
DELETE FROM job_documents
WHERE parent_job_id = $1
    AND document_id = ANY (ARRAY(SELECT document_id FROM job_documents WHERE parent_job_id = $1 LIMIT $2))

-- name: delete_log_lines
-- Delete up to $2 lines of a job's log.
DELETE FROM log_lines
WHERE job_id = $1 AND event_id = ANY (ARRAY(SELECT event_id FROM log_lines WHERE job_id = $1 LIMIT $2))

-- name: mark_gone
-- Nothing is left of a deleted job but its row.
UPDATE jobs SET has_remains = false WHERE job_id = $1

-- name: measure_live_jobs
-- One row is a status: how many live jobs are in it, how many of them the watchdog has reported, and how many pages
-- these miss that the crawler knows. Paused jobs are not silent.
SELECT status, count(*) AS jobs, count(stalled_since) AS stalled,
    coalesce(sum(greatest(0, crawler_pages - pending - running - completed - failed - skipped - cancelled))
        FILTER (WHERE stalled_since IS NOT NULL), 0)::bigint AS missing_pages
FROM jobs WHERE created_at IS NOT NULL AND finished_at IS NULL GROUP BY status

-- name: add_log_lines
-- Keep lines of logs that are not kept yet, unless their job is deleted.
INSERT INTO log_lines (job_id, logged_at, event_id, level, message, fields)
SELECT job_id, logged_at, event_id, level, message, fields::json
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::text[])
AS line (job_id, logged_at, event_id, level, message, fields)
WHERE NOT EXISTS (SELECT FROM jobs WHERE jobs.job_id = line.job_id AND jobs.deleted_at IS NOT NULL)
ORDER BY job_id, logged_at, event_id ON CONFLICT DO NOTHING

-- name: trim_logs
-- Forget the lines of these jobs that are older than the newest $2, which may be some that just came.
DELETE FROM log_lines WHERE ctid = ANY (ARRAY(
    SELECT older.ctid FROM unnest($1::uuid[]) AS job (id), LATERAL (
        SELECT ctid FROM log_lines WHERE job_id = job.id ORDER BY logged_at DESC, event_id DESC OFFSET $2
    ) AS older
))

-- name: log_tail
-- The newest $2 lines of a job's log, the oldest of them first.
SELECT job_id, logged_at AS timestamp, level, message, fields FROM (
    SELECT * FROM log_lines WHERE job_id = $1 ORDER BY logged_at DESC, event_id DESC LIMIT $2
) AS tail ORDER BY logged_at, event_id
