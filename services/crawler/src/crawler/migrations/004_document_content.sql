-- What a page says about itself, and its source where its last job wanted that kept.
ALTER TABLE documents
    ADD COLUMN description text NOT NULL DEFAULT '',
    ADD COLUMN language text,
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    -- Compressed by zlib; PostgreSQL need not try again.
    ADD COLUMN html bytea;
ALTER TABLE documents ALTER COLUMN html SET STORAGE EXTERNAL;
