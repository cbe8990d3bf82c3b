-- True for a sitemap or another list of URLs: it is read for what it lists, and is no document.
ALTER TABLE queue ADD COLUMN is_list boolean NOT NULL DEFAULT false;
ALTER TABLE waiting ADD COLUMN is_list boolean NOT NULL DEFAULT false;

ALTER TABLE documents
    -- Those of `links` that are not to be followed.
    ADD COLUMN nofollow jsonb NOT NULL DEFAULT '[]',
    -- By which rules the content was made from the page: only a job with the same may take it as it is.
    ADD COLUMN made_by text NOT NULL DEFAULT '',
    -- Since when its server says that there is no such page any more.
    ADD COLUMN gone_at timestamptz;
