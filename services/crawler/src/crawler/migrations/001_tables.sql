CREATE TABLE jobs (
    job_id uuid PRIMARY KEY,
    status text NOT NULL CHECK (status IN ('running', 'paused', 'cancelled')),
    -- False in the row that a command leaves when it arrives before the start.
    started boolean NOT NULL DEFAULT false,
    -- The newest command that was obeyed; older ones that arrive later are not.
    revision bigint NOT NULL,
    options jsonb NOT NULL DEFAULT '{}',
    sites text[] NOT NULL DEFAULT '{}',
    -- Places taken of the budget max_pages: pages that are to be fetched or gave a document.
    admitted bigint NOT NULL DEFAULT 0,
    -- All pages the job ever had, to compare with what the tracker knows.
    pages bigint NOT NULL DEFAULT 0,
    -- With a depth limit the crawl goes level by level, so that each page is found at its least depth; null without.
    level int
) WITH (fillfactor = 50);

-- Every URL of a job that was ever found worth a page: the set that makes the frontier fetch each once.
CREATE TABLE seen (
    job_id uuid NOT NULL,
    page_id uuid NOT NULL,
    PRIMARY KEY (job_id, page_id)
);

-- The pages still to be fetched, and those being fetched. Closing a page is deleting its row here: only the transaction
-- that deletes it may save its document and tell of it.
CREATE TABLE queue (
    job_id uuid NOT NULL,
    origin text NOT NULL,
    slot smallint NOT NULL,
    depth int NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    page_id uuid NOT NULL,
    url text NOT NULL,
    redirects smallint NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (job_id, origin, slot, depth, seq)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX queue_levels ON queue (job_id, depth);

-- URLs found when the budget was spent, in the order found: a page that gives no document gives its place to the first.
CREATE TABLE waiting (
    job_id uuid NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    page_id uuid NOT NULL,
    url text NOT NULL,
    depth int NOT NULL,
    redirects smallint NOT NULL,
    PRIMARY KEY (job_id, seq)
);

-- What is known of a server: how it wants to be treated, shared by all jobs and replicas.
CREATE TABLE origins (
    origin text PRIMARY KEY,
    -- Not before this time may the next request be sent.
    next_fetch_at timestamptz NOT NULL DEFAULT '-infinity',
    delay interval NOT NULL DEFAULT '0',
    robots_verdict text CHECK (robots_verdict IN ('body', 'allow', 'disallow')),
    robots_body text,
    robots_expires_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 70);

-- The right to have one request at a time under way at an origin. `epoch` is the fencing token of its lease, which
-- lasts as long as its owner lives.
CREATE TABLE slots (
    origin text NOT NULL,
    slot smallint NOT NULL,
    owner uuid,
    epoch bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (origin, slot)
) WITH (fillfactor = 50);

CREATE TABLE workers (
    worker_id uuid PRIMARY KEY,
    alive_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The pages of one job at one slot. Whoever holds the slot owns all of them.
CREATE TABLE lanes (
    job_id uuid NOT NULL,
    origin text NOT NULL,
    slot smallint NOT NULL,
    -- When the first of its pages can be fetched; infinity when none can before something else happens.
    due_at timestamptz NOT NULL,
    served_at timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (job_id, origin, slot)
) WITH (fillfactor = 50);
CREATE INDEX lanes_fair ON lanes (served_at);

CREATE TABLE documents (
    document_id uuid PRIMARY KEY,
    url text NOT NULL,
    title text NOT NULL,
    content text NOT NULL,
    links jsonb NOT NULL,
    content_hash text NOT NULL,
    -- That of the save before the last, which tells an update from a save that changed nothing.
    previous_hash text,
    status_code int NOT NULL,
    content_type text NOT NULL,
    etag text,
    last_modified text,
    created_at timestamptz NOT NULL,
    saved_at timestamptz NOT NULL
) WITH (fillfactor = 90);

CREATE TABLE job_documents (
    job_id uuid NOT NULL,
    document_id uuid NOT NULL,
    PRIMARY KEY (job_id, document_id)
);

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
