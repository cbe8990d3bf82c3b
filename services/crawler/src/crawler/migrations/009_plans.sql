-- For a job's least depth only. As an index on plain columns it was taken for the look-up of single pages, which then read
-- every page of their depth: an expression is used by nothing but the query that writes it.
DROP INDEX queue_levels;
CREATE INDEX queue_levels ON queue (job_id, (depth + 0));
