"""Documents: what the crawler saved, and how the job tracker lists it."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, Field

from tallyho_contracts.event import Count, Message, SmallCount, Text, Url


class Change(StrEnum):
    """What saving a document changed in the crawler's store."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class DocumentSaved(Message):
    """`document.saved.v1`, crawler to job-tracker: the document is stored, and belongs to the parent job."""

    job_id: UUID = Field(description="The page's id (the child job).")
    parent_job_id: UUID
    document_id: UUID = Field(description="uuid5(namespace URL, canonical url): the same in every job.")
    source_url: Url
    title: Text = Field(default="", max_length=1000)
    content_hash: Text = Field(max_length=128, description="SHA-256 of the extracted text, in hexadecimal.")
    change: Change
    timestamp: AwareDatetime


class Document(Message):
    """A document of a job. `ordinal` is its dense number in the job, from 1 to the job's document count."""

    document_id: UUID
    ordinal: int = Field(ge=1, le=2**63 - 1)
    page_id: UUID | None = None
    source_url: Url
    title: Text = ""
    content_hash: Text | None = None
    change: Change | None = None
    saved_at: AwareDatetime


class DocumentsQuery(Message):
    """`job.documents.v1`, gateway to job-tracker: a keyset page of a job's documents, by ordinal."""

    job_id: UUID
    after: Count = Field(default=0, description="The last ordinal already seen.")
    limit: int = Field(default=100, ge=1, le=1000)


class DocumentList(Message):
    """The reply to `job.documents.v1`."""

    documents: tuple[Document, ...]
    next: int | None = Field(default=None, description="Pass it as `after` for the next page; none at the end.")


class SavedDocumentsQuery(Message):
    """`document.list.v1`, gateway to crawler: a keyset page of what the crawler saved for a job, by document id."""

    job_id: UUID
    after: UUID | None = Field(default=None, description="The last document id already seen.")
    limit: int = Field(default=100, ge=1, le=1000)


class SavedDocumentList(Message):
    """The reply to `document.list.v1`. A job that the crawler does not know has no documents."""

    document_ids: tuple[UUID, ...]
    next: UUID | None = Field(default=None, description="Pass it as `after` for the next page; none at the end.")


class DocumentGet(Message):
    """`document.get.v1`, gateway to crawler: one stored document."""

    document_id: UUID
    html: bool = Field(default=False, description="With the page's source, where that was kept.")


class StoredDocument(Message):
    """The reply to `document.get.v1`: all that is kept of a page, as it was last saved by whichever job."""

    document_id: UUID
    url: Url
    title: Text = ""
    content: Text = Field(description="The main text, as markdown where the job wanted that.")
    links: tuple[Text, ...] = Field(default=(), description="Where the page links to, in its order, each once.")
    content_hash: Text
    status_code: SmallCount
    content_type: Text
    etag: Text | None = None
    last_modified: Text | None = None
    created_at: AwareDatetime = Field(description="When the document was first saved.")
    saved_at: AwareDatetime = Field(description="When it was last saved, or found unchanged.")
    gone_at: AwareDatetime | None = Field(
        default=None, description="Since when its server says that there is no such page; none while there is."
    )
    description: Text = Field(default="", description="The summary that the page gives of itself.")
    language: Text | None = Field(default=None, description="The language that the page declares: `en`, `pt-BR`.")
    metadata: dict[Text, Text] = Field(
        default={}, description="What the page says about itself: `author`, `published_at`, `og:…` and the like."
    )
    html: Text | None = Field(default=None, description="The page's source, where it was asked for and kept.")
    truncated: bool = Field(default=False, description="Content, links or HTML are cut off: no message could hold all.")


class JobDocument(Message):
    """A document of a job together with what is kept of it, as the gateway streams them; None if it is not any more."""

    document: Document
    stored: StoredDocument | None = None


class DocumentsGet(Message):
    """`document.batch.v1`, gateway to crawler: many stored documents at once."""

    document_ids: tuple[UUID, ...] = Field(min_length=1, max_length=1000)


class StoredDocuments(Message):
    """The reply to `document.batch.v1`: the documents in the order asked for, without those that are not stored."""

    documents: tuple[StoredDocument, ...]
    answered: int = Field(
        ge=1, description="How many ids, from the first on, this reply is about; ask again for the rest."
    )
