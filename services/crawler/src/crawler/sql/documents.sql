-- name: known_documents
-- What tells whether documents are still as they were saved, of those of $1 that were.
SELECT document_id, etag, last_modified, made_by FROM documents WHERE document_id = ANY($1::uuid[])

-- name: kept_document
-- What an unchanged document says again, without its content.
SELECT title, content_hash, links, nofollow, links_beyond FROM documents WHERE document_id = $1

-- name: hold_documents
-- Keep documents from being deleted before this transaction ends. Returns those that exist.
SELECT document_id FROM documents WHERE document_id = ANY($1::uuid[]) ORDER BY document_id FOR KEY SHARE

-- name: keep_documents
-- Note that documents are unchanged, and so not gone.
UPDATE documents SET saved_at = $2, gone_at = NULL WHERE document_id = ANY($1::uuid[])

-- name: mark_documents_gone
-- Note that there are no such pages any more; the documents stay.
UPDATE documents SET gone_at = coalesce(gone_at, $2) WHERE document_id = ANY($1::uuid[])

-- name: save_documents
-- Insert documents or update them in place. Returns for each whether it is new, and whether its content changed.
INSERT INTO documents AS known (
    document_id, url, title, content, links, nofollow, content_hash, status_code, content_type, etag, last_modified,
    description, language, metadata, html, made_by, links_beyond, created_at, saved_at
)
SELECT *, $1, $1
FROM unnest(
    $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::jsonb[], $8::text[], $9::int[], $10::text[],
    $11::text[], $12::text[], $13::text[], $14::text[], $15::jsonb[], $16::bytea[], $17::text[], $18::int[]
) AS document (
    document_id, url, title, content, links, nofollow, content_hash, status_code, content_type, etag, last_modified,
    description, language, metadata, html, made_by, links_beyond
)
ORDER BY document_id
ON CONFLICT (document_id) DO UPDATE SET
    title = excluded.title, content = excluded.content, links = excluded.links,
    nofollow = excluded.nofollow, made_by = excluded.made_by, links_beyond = excluded.links_beyond, gone_at = NULL,
    content_hash = excluded.content_hash, previous_hash = known.content_hash, status_code = excluded.status_code,
    content_type = excluded.content_type, etag = excluded.etag, last_modified = excluded.last_modified,
    description = excluded.description, language = excluded.language, metadata = excluded.metadata,
    html = excluded.html, saved_at = excluded.saved_at
RETURNING
    document_id,
    CASE
        WHEN xmax = 0 THEN 'created' WHEN previous_hash = content_hash THEN 'unchanged' ELSE 'updated'
    END AS change

-- name: add_job_documents
-- Note which documents belong to which job.
INSERT INTO job_documents (job_id, document_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS pair (job_id, document_id) ORDER BY 1, 2
ON CONFLICT DO NOTHING

-- name: list_job_documents
-- The documents saved for a job after document $2, by id.
SELECT document_id FROM job_documents WHERE job_id = $1 AND document_id > $2 ORDER BY document_id LIMIT $3

-- name: get_documents
-- The stored ones of the documents $1, in that order; place 1 is the first of $1. Sorted before what is large is read.
SELECT
    asked.place, documents.document_id, url, title, content, links, content_hash, status_code, content_type, etag,
    last_modified, description, language, metadata, created_at, saved_at, gone_at
FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (document_id, place)
JOIN documents USING (document_id)
ORDER BY asked.place

-- name: get_html
-- The compressed source of a document; null where no job wanted it kept.
SELECT html FROM documents WHERE document_id = $1
