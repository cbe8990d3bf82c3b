CREATE TABLE jobs (
    job_id uuid PRIMARY KEY,
    -- Null in a placeholder: events of the job have arrived, its creation has not.
    created_at timestamptz,
    idempotency_key text UNIQUE,
    request_hash bytea,
    name text NOT NULL DEFAULT '',
    seeds jsonb NOT NULL DEFAULT '[]',
    options jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'paused', 'cancelling', 'completed', 'failed', 'cancelled')),
    -- The crawler has stored the seeds: from now on, no known page may be missing.
    start_confirmed boolean NOT NULL DEFAULT false,
    revision bigint NOT NULL DEFAULT 0,
    document_count bigint NOT NULL DEFAULT 0,
    pending bigint NOT NULL DEFAULT 0,
    running bigint NOT NULL DEFAULT 0,
    completed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    -- How many pages the crawler last said the job has, to compare with ours when a job falls silent.
    crawler_pages bigint NOT NULL DEFAULT 0,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    error text,
    -- The terminal state has reached the broker.
    announced boolean NOT NULL DEFAULT false,
    CHECK (least(document_count, pending, running, completed, failed, skipped, cancelled) >= 0)
) WITH (fillfactor = 50);

CREATE INDEX jobs_newest ON jobs (created_at DESC, job_id DESC) WHERE created_at IS NOT NULL;
CREATE INDEX jobs_unannounced ON jobs (job_id) WHERE finished_at IS NOT NULL AND NOT announced;
CREATE INDEX jobs_live ON jobs (job_id) WHERE created_at IS NOT NULL AND finished_at IS NULL;

CREATE TABLE job_documents (
    parent_job_id uuid NOT NULL,
    document_id uuid NOT NULL,
    -- Dense from 1: the job's document count is its last ordinal.
    ordinal bigint NOT NULL,
    page_id uuid,
    source_url text NOT NULL,
    title text NOT NULL DEFAULT '',
    content_hash text,
    change text,
    saved_at timestamptz NOT NULL,
    PRIMARY KEY (parent_job_id, document_id),
    UNIQUE (parent_job_id, ordinal)
);

CREATE TABLE pages (
    parent_job_id uuid NOT NULL,
    page_id uuid NOT NULL,
    -- 0 pending, 1 running, 2 completed, 3 failed, 4 skipped, 5 cancelled; it only moves forward, and from 2 on not at all.
    state smallint NOT NULL,
    url text,
    depth int,
    reason text,
    status_code int,
    document_id uuid,
    skipped_links jsonb,
    finished_at timestamptz,
    PRIMARY KEY (parent_job_id, page_id)
) WITH (fillfactor = 80);

CREATE TABLE outbox (
    event_id uuid PRIMARY KEY,
    exchange text NOT NULL,
    routing_key text NOT NULL,
    type text NOT NULL,
    body bytea NOT NULL,
    leased_until timestamptz NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    last_error text
);
CREATE INDEX outbox_expired ON outbox (leased_until);
