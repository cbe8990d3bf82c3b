-- `seen` holds every URL that a job met, and why those that are no pages of it are none.
ALTER TABLE seen
    -- Null of a page. "budget": it waits for a place in the budget, and is none before it has one.
    ADD COLUMN reason text,
    -- Of those with a reason only: a page's URL is where the page is.
    ADD COLUMN url text,
    ADD COLUMN depth int;

UPDATE seen SET reason = 'budget', url = waiting.url, depth = waiting.depth
FROM waiting WHERE seen.job_id = waiting.job_id AND seen.page_id = waiting.page_id;

ALTER TABLE waiting DROP COLUMN url, DROP COLUMN depth;

CREATE INDEX seen_skipped ON seen (job_id, reason, page_id) WHERE reason IS NOT NULL;
