"""Crawls: what the job tracker tells the crawler to do, and what the crawler answers.

`revision` is that of the job when the command was given; the crawler ignores a command older than one it has obeyed.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from tallyho_contracts.event import NO_NUL, Count, Message, SmallCount, Text, Url
from tallyho_contracts.pages import SpawnedPage

Render = Literal["none", "browser"]
Pattern = Annotated[str, StringConstraints(pattern=NO_NUL, min_length=1, max_length=1000)]


class CrawlOptions(Message):
    """The rules of one crawl: which pages belong to it and what is kept of them."""

    max_pages: int | None = Field(
        default=100_000,
        ge=1,
        le=2**63 - 1,
        description="Stop at this many documents; none for no limit. Failed pages give their place back.",
    )
    max_depth: SmallCount | None = Field(default=None, description="Links from a seed; 0 crawls the seeds only.")
    include: tuple[Pattern, ...] = Field(
        default=(),
        max_length=100,
        description="RE2 patterns searched in a found URL; one must match. Seeds are exempt.",
    )
    exclude: tuple[Pattern, ...] = Field(
        default=(),
        max_length=100,
        description="RE2 patterns searched in a found URL; none may match. Seeds are exempt.",
    )
    match_path: bool = Field(default=False, description="Search the patterns in a URL's path only.")
    same_site: bool = Field(default=True, description="Follow only links to the seeds' hosts and ports (www. ignored).")
    subdomains: bool = Field(default=False, description="Hosts below the seeds' hosts belong to their sites, too.")
    outlinks: bool = Field(
        default=False,
        description="Also the pages elsewhere that the seeds' sites link to, whatever `include` says; not their links.",
    )
    below: tuple[Text, ...] = Field(
        default=(),
        max_length=100,
        description="On the seeds' hosts, follow only links to one of these paths or below it. Seeds are exempt.",
    )
    sitemap: Literal["skip", "include", "only"] = Field(
        default="skip",
        description="Read the sitemaps of the seeds' hosts: in addition to links, or only, following no links.",
    )
    url_lists: tuple[Url, ...] = Field(
        default=(),
        max_length=100,
        description="Sitemaps, feeds or text files of URLs to crawl, too, by the rules for links.",
    )
    modified_since: AwareDatetime | None = Field(
        default=None, description="Leave out what a sitemap says was last modified before this time."
    )
    revalidate: bool = Field(
        default=True,
        description="Ask servers whether known documents have changed, instead of fetching them anew.",
    )
    drop_tracking: bool = Field(
        default=False, description="Drop parameters such as utm_source from found URLs and seeds (docs/crawling.md)."
    )
    canonical: bool = Field(
        default=False, description="Keep the page that a page's rel=canonical names on its own site, instead of it."
    )
    robots_tags: bool = Field(
        default=True, description="Obey noindex and nofollow: in robots <meta> tags, X-Robots-Tag and links."
    )
    max_failures: Count | None = Field(default=None, description="The job fails once more pages than this failed.")
    delay: float | None = Field(
        default=None,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds from one request of this job to a host to its next; a host that asks for more gets more.",
    )
    markdown: bool = Field(default=True, description="Keep the main text of a page as markdown.")
    render: Render = Field(
        default="none",
        description="`browser`: pages as they are after their scripts; takes a crawler that renders.",
    )
    keep_html: bool = Field(default=False, description="Keep the source of each page, too.")
    max_host_pages: int | None = Field(
        default=None, ge=1, le=2**63 - 1, description="Visit at most this many pages of one host: a trap ends there."
    )


class CrawlStart(Message):
    """`crawl.start.v1`, job-tracker to crawler."""

    job_id: UUID
    revision: Count
    seeds: tuple[Url, ...] = Field(min_length=1, max_length=1000)
    options: CrawlOptions = CrawlOptions()
    retry_of: UUID | None = Field(
        default=None,
        description="Start with the pages of this job that failed, not with the seeds, and leave out what it has met.",
    )


class CrawlCommand(Message):
    """What `crawl.pause.v1`, `crawl.resume.v1`, `crawl.cancel.v1` and `crawl.delete.v1` carry."""

    job_id: UUID
    revision: Count


class CrawlPause(CrawlCommand):
    """`crawl.pause.v1`: claim no more pages of this job."""


class CrawlResume(CrawlCommand):
    """`crawl.resume.v1`: claim its pages again."""


class CrawlCancel(CrawlCommand):
    """`crawl.cancel.v1`: close all its pages that are not finished; for ever."""


class CrawlChange(CrawlCommand):
    """`crawl.change.v1`, job-tracker to crawler: from now on these are the rules. The crawler confirms it."""

    options: CrawlOptions


class CrawlChanged(Message):
    """`crawl.changed.v1`, crawler to job-tracker: the rules of that revision hold; these pages joined for them."""

    parent_job_id: UUID
    revision: Count
    pages: tuple[SpawnedPage, ...]


class CrawlDelete(CrawlCommand):
    """`crawl.delete.v1`: forget this job and the documents that no other job has; for ever."""


class RejectedSeed(Message):
    """A seed that became no page."""

    url: Url
    reason: Text


class CrawlStarted(Message):
    """`crawl.started.v1`, crawler to job-tracker: the seeds are stored; these are their pages."""

    parent_job_id: UUID
    pages: tuple[SpawnedPage, ...]
    rejected: tuple[RejectedSeed, ...] = ()


class CrawlStopped(Message):
    """`crawl.stopped.v1`, crawler to job-tracker: these pages were cancelled. A large job sends several."""

    parent_job_id: UUID
    page_ids: tuple[UUID, ...]
