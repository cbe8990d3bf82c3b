-- Which kind of crawler process visits the pages of a job.
ALTER TABLE jobs ADD COLUMN render text NOT NULL GENERATED ALWAYS AS (coalesce(options ->> 'render', 'none')) STORED;
