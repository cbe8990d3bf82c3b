ALTER TABLE jobs
    -- The revision of the last change of the options, and the newest that the crawler has confirmed: until they agree, pages
    -- may have joined that are not known.
    ADD COLUMN change_revision bigint NOT NULL DEFAULT 0,
    ADD COLUMN change_confirmed bigint NOT NULL DEFAULT 0,
    -- The job whose failed pages this one visits again.
    ADD COLUMN retry_of uuid;
