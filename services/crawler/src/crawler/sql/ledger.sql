-- name: known_urls
-- What is known of URLs in their jobs: a row for each that was met, with the reason why it is no page (null of a page).
SELECT url.page_id, seen.reason
FROM unnest($1::uuid[], $2::uuid[]) AS url (job_id, page_id)
JOIN seen USING (job_id, page_id)

-- name: note_urls
-- Remember URLs as met, each with the reason why it is no page (null of a page). One that was skipped so far may become
-- another; a page stays one.
INSERT INTO seen AS known (job_id, page_id, reason, url, depth)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[]) AS met (job_id, page_id, reason, url, depth)
ORDER BY job_id, page_id
ON CONFLICT (job_id, page_id) DO UPDATE SET reason = excluded.reason, url = excluded.url, depth = excluded.depth
WHERE known.reason IS NOT NULL

-- name: note_beyond
-- Add to the links and entries of locked jobs that were not looked at.
UPDATE jobs SET beyond = jobs.beyond + more.beyond
FROM unnest($1::uuid[], $2::bigint[]) AS more (job_id, beyond) WHERE jobs.job_id = more.job_id

-- name: count_urls
-- How many URLs a job has met, and how many more links and entries were not looked at.
SELECT
    (SELECT count(*) FROM seen WHERE job_id = $1) AS met,
    coalesce((SELECT beyond FROM jobs WHERE job_id = $1), 0) AS beyond

-- name: count_skipped
-- How many URLs of a job are no pages, by reason.
SELECT reason, count(*) AS urls FROM seen
WHERE job_id = $1 AND reason IS NOT NULL GROUP BY reason ORDER BY count(*) DESC, reason LIMIT 200

-- name: list_skipped
-- The URLs of a job that are no pages, after the URL $3 of reason $2, by reason and id.
SELECT page_id, url, depth, reason FROM seen
WHERE job_id = $1 AND reason IS NOT NULL AND (reason, page_id) > ($2, $3::uuid)
ORDER BY reason, page_id LIMIT $4

-- name: list_skipped_for
-- Those of them for reason $5: a query of its own, since no index leads to what a condition may leave open.
SELECT page_id, url, depth, reason FROM seen
WHERE job_id = $1 AND reason = $5 AND (reason, page_id) > ($2, $3::uuid)
ORDER BY reason, page_id LIMIT $4
