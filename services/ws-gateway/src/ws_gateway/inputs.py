"""What clients may send over HTTP. Unknown fields are refused, so that a typing error is noticed."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

import re2  # type: ignore[import-untyped]  # google-re2 ships no types
from ada_url import URL
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, model_validator
from tallyho_addresses import is_public_host
from tallyho_contracts.crawls import CrawlOptions, Pattern
from tallyho_contracts.event import Count, Text, Url
from tallyho_contracts.jobs import ChangeableOption, JobChange, JobCreate, JobsQuery
from tallyho_contracts.pages import PageState

MAX_NAME = 200


def _usable_seed(seed: str, info: ValidationInfo) -> str:
    """The crawler parses with the same library; a host name is resolved, and checked again, only there."""
    try:
        url = URL(seed)
    except ValueError:
        raise ValueError("must be an absolute URL such as https://example.com/docs/") from None
    if url.protocol not in ("http:", "https:"):
        raise ValueError("must be an http or https URL")
    allow_private = bool(info.context and info.context["allow_private_addresses"])
    if not allow_private and is_public_host(url.hostname) is False:
        raise ValueError(f"{url.hostname} is not a public address")
    return seed


def _name(seed: str) -> str:
    """What a job is called after its first seed: a name is seen where a URL's credentials and query must not be."""
    url = URL(seed)
    return f"{url.host}{url.pathname}".rstrip("/")[:MAX_NAME]


def _compiling_pattern(pattern: str) -> str:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(f"is no RE2 pattern: {reason.decode() if isinstance(reason, bytes) else reason}") from None
    return pattern


def _path(path: str) -> str:
    if not path.startswith("/") or "?" in path or "#" in path:
        raise ValueError("must be a path such as /docs/, without query and fragment")
    return path


Seed = Annotated[Url, AfterValidator(_usable_seed)]
Patterns = tuple[Annotated[Pattern, AfterValidator(_compiling_pattern)], ...]
IdempotencyKey = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]+$", max_length=255)]


def _described(field: str) -> Any:
    """The contract's own bound and words, for a field that is checked further here."""
    return Field(default=(), max_length=100, description=CrawlOptions.model_fields[field].description)


class SubmittedOptions(CrawlOptions):
    """The options of a crawl as a client sends them."""

    model_config = ConfigDict(extra="forbid")

    include: Patterns = _described("include")
    exclude: Patterns = _described("exclude")
    below: tuple[Annotated[Text, AfterValidator(_path)], ...] = _described("below")
    url_lists: tuple[Seed, ...] = _described("url_lists")


class SubmittedJob(BaseModel):
    """The body of `POST /v1/jobs`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=1000, description="Where the crawl starts.")
    name: Text = Field(default="", max_length=MAX_NAME, description="Shown in lists; the first seed if not given.")
    options: SubmittedOptions = SubmittedOptions()

    def to_create(self, job_id: UUID, idempotency_key: str | None) -> JobCreate:
        """The tracker's request for this body."""
        return JobCreate(
            job_id=job_id,
            idempotency_key=idempotency_key,
            name=self.name or _name(self.seeds[0]),
            seeds=self.seeds,
            options=CrawlOptions(**self.options.model_dump()),
        )


class SubmittedChange(BaseModel):
    """The body of `PATCH /v1/jobs/{job_id}`: at least one of these limits; null for none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pages: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    max_failures: Count | None = None
    delay: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _names_a_limit(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(f"must have at least one of {', '.join(type(self).model_fields)}")
        return self

    def to_change(self, job_id: UUID) -> JobChange:
        """The tracker's request for this body."""
        fields = tuple(ChangeableOption(name) for name in type(self).model_fields if name in self.model_fields_set)
        return JobChange(job_id=job_id, fields=fields, **self.model_dump())


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParameters(_Parameters):
    """A request that takes no query parameter."""


class JobPath(_Parameters):
    """The job that a path names."""

    job_id: UUID


class DocumentPath(_Parameters):
    """The document that a path names."""

    document_id: UUID


class DocumentParameters(_Parameters):
    """The query of `GET /v1/documents/{document_id}`."""

    format: Literal["json", "html"] = Field(
        default="json", description="All that is kept, as JSON; or the source of the page, where that was kept."
    )


class JobListParameters(JobsQuery):
    """The query of `GET /v1/jobs`."""

    model_config = ConfigDict(extra="forbid")


class DocumentListParameters(_Parameters):
    """The query of `GET /v1/jobs/{job_id}/documents`."""

    after: Count = Field(default=0, description="The last ordinal already seen.")
    limit: int = Field(default=100, ge=1, le=1000, description="As JSON Lines: all of them unless given.")


class SavedDocumentListParameters(_Parameters):
    """The query of `GET /v1/jobs/{job_id}/saved-documents`."""

    after: UUID | None = Field(default=None, description="The last document id already seen.")
    limit: int = Field(default=100, ge=1, le=1000)


class EventParameters(_Parameters):
    """The query of `GET /v1/jobs/{job_id}/events`."""

    ticket: str | None = Field(default=None, description="In place of a key, for browsers; from `POST /v1/tickets`.")


class LogParameters(_Parameters):
    """The query of `GET /v1/jobs/{job_id}/log`."""

    limit: int = Field(default=200, ge=1, le=1000)


class PageListParameters(_Parameters):
    """The query of `GET /v1/jobs/{job_id}/pages`."""

    state: PageState | None = None
    after: UUID | None = Field(default=None, description="The last page id already seen.")
    limit: int = Field(default=100, ge=1, le=1000)
