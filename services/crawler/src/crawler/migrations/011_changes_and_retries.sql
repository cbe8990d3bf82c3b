ALTER TABLE jobs
    -- The newest change of the options that was obeyed.
    ADD COLUMN options_revision bigint NOT NULL DEFAULT 0,
    -- Documents saved for it: once they are as many as the budget, what is left in the queue is closed.
    ADD COLUMN saved bigint NOT NULL DEFAULT 0,
    -- The pages left in its queue are being closed, some at a time: it was cancelled, or its budget is spent.
    ADD COLUMN closing boolean NOT NULL DEFAULT false,
    -- It has URLs that wait for a place, or has had some.
    ADD COLUMN waits boolean NOT NULL DEFAULT false,
    -- The jobs whose URLs are not met again: the one whose failed pages it visits, the one that that one retried, ...
    ADD COLUMN retry_of uuid[] NOT NULL DEFAULT '{}',
    -- The last failed page of `retry_of` that has joined; null when all have.
    ADD COLUMN retry_after uuid;

UPDATE jobs SET
    saved = (SELECT count(*) FROM job_documents WHERE job_documents.job_id = jobs.job_id),
    waits = EXISTS (SELECT FROM waiting WHERE waiting.job_id = jobs.job_id),
    closing = status = 'cancelled';

CREATE INDEX jobs_closing ON jobs (job_id) WHERE closing;

-- The pages that failed, for a job that is to visit them again.
CREATE TABLE failed_pages (
    job_id uuid NOT NULL,
    page_id uuid NOT NULL,
    url text NOT NULL,
    depth int NOT NULL,
    is_list boolean NOT NULL,
    PRIMARY KEY (job_id, page_id)
);

-- When a job with a delay of its own may send its next request to an origin. The origin's own delay comes on top.
CREATE TABLE paces (
    job_id uuid NOT NULL,
    origin text NOT NULL,
    next_fetch_at timestamptz NOT NULL,
    PRIMARY KEY (job_id, origin)
) WITH (fillfactor = 50);
