-- How many pages each host has in a job that has a budget for each.
CREATE TABLE job_hosts (
    job_id uuid NOT NULL,
    host text NOT NULL,
    pages bigint NOT NULL,
    PRIMARY KEY (job_id, host)
) WITH (fillfactor = 70);
