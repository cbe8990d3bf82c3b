-- The last change of a job that the watchdog has reported as silent; null again with its next change.
ALTER TABLE jobs ADD COLUMN stalled_since timestamptz;

-- When a page came into its state. No index: one on the state would make each step of each page cost an index entry,
-- and only the pages of silent jobs are ever asked for.
ALTER TABLE pages ADD COLUMN changed_at timestamptz;
