-- The newest lines of each job's log. A line's event may come twice: it has the same key then.
CREATE TABLE log_lines (
    job_id uuid NOT NULL,
    logged_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    -- Not jsonb: a line is given out as it came, its fields in their order.
    fields json NOT NULL,
    PRIMARY KEY (job_id, logged_at, event_id)
);
