-- name: register_worker
-- Prove that a worker lives, for $2 more, which visits the pages of jobs that want them rendered as $3. Returns how many
-- others do.
WITH beat AS (
    INSERT INTO workers (worker_id, alive_until, render) VALUES ($1, now() + $2::interval, $3)
    ON CONFLICT (worker_id) DO UPDATE SET alive_until = excluded.alive_until
), dead AS (
    DELETE FROM workers WHERE alive_until < now() - interval '1 hour'
)
SELECT count(*) FROM workers WHERE alive_until > now() AND worker_id <> $1 AND render = $3

-- name: remove_worker
-- A worker that stops leaves at once what it holds to the others.
DELETE FROM workers WHERE worker_id = $1

-- name: claim_lanes
-- Lease up to $2 free slots that have due pages of a running job, the job and lane served longest ago first; at one
-- origin not more than $3 for one worker; only of jobs that want their pages rendered as $4. Returns a row for each lane to serve, with its job's rules.
WITH due AS (
    SELECT lanes.job_id, lanes.origin, lanes.slot, lanes.served_at
    FROM lanes
    JOIN jobs USING (job_id)
    JOIN slots USING (origin, slot)
    JOIN origins USING (origin)
    WHERE lanes.due_at <= now() AND jobs.status = 'running' AND NOT jobs.closing AND jobs.render = $4
        AND origins.next_fetch_at <= now() AND slots.rests_until <= now()
        -- An array, since a join with workers would not be looked at again for a slot that was claimed meanwhile.
        AND (slots.owner = ANY (ARRAY(SELECT worker_id FROM workers WHERE alive_until > now()))) IS NOT TRUE
        AND (SELECT count(*) FROM slots AS held WHERE held.origin = lanes.origin AND held.owner = $1) < $3
    ORDER BY lanes.served_at
    LIMIT $2 * 8
    FOR UPDATE OF lanes, slots SKIP LOCKED
), one_a_slot AS (
    SELECT DISTINCT ON (origin, slot) * FROM due ORDER BY origin, slot, served_at
), ranked AS (
    SELECT one_a_slot.*, row_number() OVER (PARTITION BY origin ORDER BY served_at) AS place
    FROM one_a_slot
), chosen AS (
    SELECT * FROM ranked
    WHERE place + (SELECT count(*) FROM slots WHERE slots.origin = ranked.origin AND owner = $1) <= $3
    ORDER BY served_at LIMIT $2
), leased AS (
    UPDATE slots SET owner = $1, epoch = slots.epoch + 1
    FROM chosen WHERE slots.origin = chosen.origin AND slots.slot = chosen.slot
    RETURNING slots.origin, slots.slot, slots.epoch
), served AS (
    UPDATE lanes SET served_at = clock_timestamp()
    FROM chosen
    WHERE lanes.job_id = chosen.job_id AND lanes.origin = chosen.origin AND lanes.slot = chosen.slot
)
SELECT chosen.job_id, chosen.origin, chosen.slot, leased.epoch, jobs.options
FROM chosen JOIN leased USING (origin, slot) JOIN jobs USING (job_id)

-- name: pages_of_lanes
-- The first $4 pages of each lane that can be fetched now, of the job's present level where it goes level by level.
SELECT queue.job_id, queue.origin, queue.slot, depth, seq, page_id, url, redirects, attempts, is_list
FROM unnest($1::uuid[], $2::text[], $3::smallint[]) AS lane (job_id, origin, slot)
JOIN jobs USING (job_id)
CROSS JOIN LATERAL (
    SELECT * FROM queue
    WHERE queue.job_id = lane.job_id AND queue.origin = lane.origin AND queue.slot = lane.slot
        AND queue.not_before <= now() AND (jobs.level IS NULL OR queue.depth <= jobs.level)
    ORDER BY depth, seq LIMIT $4
) AS queue
ORDER BY queue.job_id, queue.origin, queue.slot, depth, seq

-- name: lock_jobs
-- Lock jobs in the order of their ids, before anything of theirs is touched.
SELECT job_id, status, options, sites, admitted, pages, level, saved, closing, waits, retry_of, retry_after FROM jobs
WHERE job_id = ANY($1::uuid[]) ORDER BY job_id FOR UPDATE

-- name: close_pages
-- Close fetched pages whose slot is still leased under the same epoch. Returns a row for each that is closed by this
-- transaction, and the lease it was closed under; what another one closed, or a cancel, is not among them.
DELETE FROM queue
USING jsonb_to_recordset($1::jsonb) AS page (
    job_id uuid, origin text, slot smallint, depth int, seq bigint, epoch bigint
), slots
WHERE queue.job_id = page.job_id AND queue.origin = page.origin AND queue.slot = page.slot
    AND queue.depth = page.depth AND queue.seq = page.seq
    AND slots.origin = page.origin AND slots.slot = page.slot AND slots.epoch = page.epoch
RETURNING queue.job_id, queue.page_id, page.epoch

-- name: retry_pages
-- Put pages back whose fetch failed for now, under the same fence; the attempts are counted by the caller, since this
-- may be done twice.
UPDATE queue SET attempts = page.attempts, not_before = now() + page.delay * interval '1 second'
FROM jsonb_to_recordset($1::jsonb) AS page (
    job_id uuid, origin text, slot smallint, depth int, seq bigint, epoch bigint, attempts int, delay float8
), slots
WHERE queue.job_id = page.job_id AND queue.origin = page.origin AND queue.slot = page.slot
    AND queue.depth = page.depth AND queue.seq = page.seq
    AND slots.origin = page.origin AND slots.slot = page.slot AND slots.epoch = page.epoch

-- name: take_waiting
-- Take the first $2 URLs of a job that wait for a place in its budget: they become pages.
WITH taken AS (
    DELETE FROM waiting
    WHERE job_id = $1 AND seq IN (SELECT seq FROM waiting WHERE job_id = $1 ORDER BY seq LIMIT $2)
    RETURNING seq, page_id, redirects, is_list
)
UPDATE seen SET reason = NULL FROM taken
WHERE seen.job_id = $1 AND seen.page_id = taken.page_id
RETURNING taken.seq, seen.page_id, seen.url, seen.depth, taken.redirects, taken.is_list

-- name: count_waiting
-- How many URLs of a job wait, up to $2.
SELECT count(*) FROM (SELECT FROM waiting WHERE job_id = $1 LIMIT $2) AS waits

-- name: add_waiting
-- Let URLs wait for a place in their job's budget, in the order given.
INSERT INTO waiting (job_id, page_id, redirects, is_list)
SELECT job_id, page_id, redirects, is_list
FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::boolean[])
    WITH ORDINALITY AS page (job_id, page_id, redirects, is_list, position)
ORDER BY position

-- name: add_origins
-- Make origins and their slots known.
WITH new_origins AS (
    INSERT INTO origins (origin, delay)
    SELECT DISTINCT origin, $3::interval FROM unnest($1::text[]) AS lane (origin) ORDER BY origin
    ON CONFLICT DO NOTHING
)
INSERT INTO slots (origin, slot)
SELECT DISTINCT origin, slot FROM unnest($1::text[], $2::smallint[]) AS lane (origin, slot) ORDER BY origin, slot
ON CONFLICT DO NOTHING

-- name: enqueue_pages
-- Add pages to the queue and make their lanes due. Most are, and are left as they are: a lane has many pages.
WITH added AS (
    INSERT INTO queue (job_id, origin, slot, depth, page_id, url, redirects, is_list)
    SELECT job_id, origin, slot, depth, page_id, url, redirects, is_list
    FROM jsonb_to_recordset($1::jsonb) AS page (
        position int, job_id uuid, origin text, slot smallint, depth int, page_id uuid, url text, redirects smallint,
        is_list boolean
    ) ORDER BY position
    RETURNING job_id, origin, slot
)
INSERT INTO lanes (job_id, origin, slot, due_at)
SELECT DISTINCT job_id, origin, slot, now() FROM added ORDER BY job_id, origin, slot
ON CONFLICT (job_id, origin, slot) DO UPDATE SET due_at = excluded.due_at WHERE lanes.due_at > excluded.due_at

-- name: lift_pages
-- Move queued pages up to the lesser depth at which they were found again, and make their lanes due.
WITH lifted AS (
    UPDATE queue SET depth = page.depth
    FROM jsonb_to_recordset($1::jsonb) AS page (job_id uuid, origin text, slot smallint, depth int, page_id uuid)
    WHERE queue.job_id = page.job_id AND queue.origin = page.origin AND queue.slot = page.slot
        AND queue.page_id = page.page_id AND queue.depth > page.depth
    RETURNING queue.job_id, queue.origin, queue.slot
)
UPDATE lanes SET due_at = least(lanes.due_at, now()) FROM lifted
WHERE lanes.job_id = lifted.job_id AND lanes.origin = lifted.origin AND lanes.slot = lifted.slot

-- name: advance_job
-- Add what a transaction changed to a locked job.
UPDATE jobs SET
    admitted = admitted + $2, pages = pages + $3, saved = saved + $4, waits = waits OR $5, closing = $6, sites = $7,
    retry_after = $8, level = $9
WHERE job_id = $1

-- name: first_level
-- The least depth at which a job has pages left; null when it has none.
-- The sum is what the index is on, see the migration.
SELECT min(depth + 0) FROM queue WHERE job_id = $1

-- name: wake_lanes
-- Make all lanes of a job due: its level or its status has changed.
UPDATE lanes SET due_at = now() WHERE job_id = $1

-- name: settle_lanes
-- After pages were closed or put back: drop the lanes that are empty, and say when the others are due. The jobs are
-- locked.
WITH settled AS (
    -- The first page that is due tells it; a lane can have half a million, which are all looked at only if none is.
    SELECT lane.job_id, lane.origin, lane.slot, CASE WHEN EXISTS (
        SELECT FROM queue
        WHERE queue.job_id = lane.job_id AND queue.origin = lane.origin AND queue.slot = lane.slot
            AND (jobs.level IS NULL OR queue.depth <= jobs.level) AND queue.not_before <= now()
    ) THEN now() ELSE (
        SELECT min(not_before) FROM queue
        WHERE queue.job_id = lane.job_id AND queue.origin = lane.origin AND queue.slot = lane.slot
            AND (jobs.level IS NULL OR queue.depth <= jobs.level)
    ) END AS first, EXISTS (
        SELECT FROM queue
        WHERE queue.job_id = lane.job_id AND queue.origin = lane.origin AND queue.slot = lane.slot
    ) AS has_pages
    FROM unnest($1::uuid[], $2::text[], $3::smallint[]) AS lane (job_id, origin, slot) JOIN jobs USING (job_id)
), dropped AS (
    DELETE FROM lanes USING settled
    WHERE lanes.job_id = settled.job_id AND lanes.origin = settled.origin AND lanes.slot = settled.slot
        AND NOT settled.has_pages
)
UPDATE lanes SET due_at = greatest(coalesce(settled.first, 'infinity'), (
    SELECT next_fetch_at FROM paces WHERE paces.job_id = settled.job_id AND paces.origin = settled.origin
))
FROM settled
WHERE lanes.job_id = settled.job_id AND lanes.origin = settled.origin AND lanes.slot = settled.slot
    AND settled.has_pages

-- name: release_slots
-- Give back slots that are still leased under the same epoch.
UPDATE slots SET owner = NULL
FROM unnest($1::text[], $2::smallint[], $3::bigint[]) AS held (origin, slot, epoch)
WHERE slots.origin = held.origin AND slots.slot = held.slot AND slots.epoch = held.epoch

-- name: frontier_sample
-- What share of the queue is to be read to measure it, in percent: all of it up to $1 pages, else about $2 blocks.
SELECT CASE
    WHEN (SELECT count(*) FROM (SELECT FROM queue LIMIT $1::int + 1) AS first) <= $1::int THEN 100
    ELSE least(100, 100.0 * $2::int * current_setting('block_size')::int / pg_relation_size('queue'))
END::real

-- name: measure_frontier
-- How many pages are still to be fetched, as a sample of $1 percent of the blocks tells. One row is a state: held (the job
-- is paused), leased (a living worker has their slot), later (not yet their time, or not their level's turn), due.
SELECT
    CASE
        WHEN jobs.status <> 'running' OR jobs.closing THEN 'held'
        WHEN slots.owner = ANY (ARRAY(SELECT worker_id FROM workers WHERE alive_until > now())) THEN 'leased'
        WHEN queue.not_before > now() OR queue.depth > jobs.level THEN 'later'
        ELSE 'due'
    END AS state,
    round(count(*) * 100 / $1::real)::bigint AS pages
FROM queue TABLESAMPLE SYSTEM ($1::real) JOIN jobs USING (job_id) LEFT JOIN slots USING (origin, slot)
GROUP BY 1
