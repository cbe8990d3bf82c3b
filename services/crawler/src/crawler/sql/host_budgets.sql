-- name: host_pages
-- How many pages each of these hosts has in a job with a budget for each host.
SELECT host, pages FROM job_hosts WHERE job_id = $1 AND host = ANY($2::text[])

-- name: add_host_pages
-- Add to the pages that hosts have in a locked job.
INSERT INTO job_hosts AS known (job_id, host, pages)
SELECT $1, host, pages FROM unnest($2::text[], $3::bigint[]) AS added (host, pages)
ON CONFLICT (job_id, host) DO UPDATE SET pages = known.pages + excluded.pages
