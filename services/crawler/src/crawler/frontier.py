"""The frontier's data, and its rules as pure functions: what the budget lets in."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import Outcome

from crawler import urls
from crawler.sitemaps import Entry

MAX_REDIRECTS = 10
# How many pages a budget lets a job visit: some sites make up pages without end that say they are not to be kept.
PAGES_A_DOCUMENT = 10
MORE_PAGES = 1_000
BUDGET = "budget"
KNOWN = "known"
TRAP = "trap"
BEYOND = "beyond"


@dataclass(frozen=True, slots=True)
class Lane:
    """The pages of one job at one slot of an origin, leased under `epoch`."""

    job_id: UUID
    origin: str
    slot: int
    epoch: int
    options: CrawlOptions


@dataclass(frozen=True, slots=True)
class QueuedPage:
    """A page to visit. `redirects` is how many redirects led to it, `attempts` how often its fetch failed.

    `is_list`: it is read for the URLs that it lists. `known` is what was saved of it before, if anything was.
    """

    lane: Lane
    depth: int
    seq: int
    page_id: UUID
    url: str
    redirects: int
    attempts: int
    is_list: bool = False
    known: "KnownDocument | None" = None


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """What tells whether a document that was saved before is still the same. `made_by` is as in `DocumentContent`."""

    etag: str | None
    last_modified: str | None
    made_by: str


@dataclass(frozen=True, slots=True)
class KeptDocument:
    """A document that its server says is as it was saved before, by the same rules."""

    title: str
    content_hash: str
    links: tuple[str, ...]
    nofollow: tuple[str, ...]
    links_beyond: int


@dataclass(frozen=True, slots=True)
class DocumentContent:
    """What is kept of a page. `content` is its main text, as markdown where the job wants that; `html` is zlib's.

    `made_by` names the rules by which it was made: with other rules, the same page gives something else.
    """

    title: str
    content: str
    links: tuple[str, ...]
    content_hash: str
    status_code: int
    content_type: str
    etag: str | None
    last_modified: str | None
    description: str = ""
    language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    html: bytes | None = None
    nofollow: tuple[str, ...] = ()
    made_by: str = ""
    links_beyond: int = 0


@dataclass(frozen=True, slots=True)
class Links:
    """Where a page links to. Those in `nofollow` are not followed; `beyond` more were not looked at."""

    urls: tuple[str, ...] = ()
    nofollow: Container[str] = ()
    beyond: int = 0


@dataclass(frozen=True, slots=True)
class Visit:
    """How a visit to a page ended for good: with a document, a redirect's target, or a reason why with neither.

    `links` are those of a page that is not kept. `lists` are sitemaps that are to be read, too; `listed` is what one of
    them lists, and `skipped` how many of that is not followed, by reason.
    """

    page: QueuedPage
    outcome: Outcome
    reason: str | None = None
    status_code: int | None = None
    document: DocumentContent | KeptDocument | None = None
    redirect_to: str | None = None
    # Of the trace of this page, when that is kept.
    traceparent: str | None = None
    links: Links = Links()
    lists: tuple[str, ...] = ()
    listed: tuple[Entry, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def found(self) -> Links:
        """The links of the page, whether it is kept or not."""
        document = self.document
        return Links(document.links, document.nofollow, document.links_beyond) if document else self.links

    @property
    def beyond(self) -> int:
        """How many links of the page, or entries of the list, were not looked at: there are too many."""
        return self.found.beyond + self.skipped.get(BEYOND, 0)


@dataclass(frozen=True, slots=True)
class Postponed:
    """A visit that failed for now: the page is due again after `delay` seconds."""

    page: QueuedPage
    delay: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CrawlJob:
    """A locked row of `jobs`: `admitted` counts the places taken of `options.max_pages`.

    `retry_of` are the job whose failed pages it visits, the one that that one retried, and so on. Those after the page
    `retry_after` are still to join; where that is None, none are.
    """

    job_id: UUID
    status: str
    options: CrawlOptions
    sites: frozenset[str]
    admitted: int
    pages: int
    level: int | None
    saved: int = 0
    closing: bool = False
    waits: bool = False
    retry_of: tuple[UUID, ...] = ()
    retry_after: UUID | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a transaction changes in a job: places taken, pages that joined, documents saved, whether URLs wait."""

    sites: frozenset[str]
    retry_after: UUID | None
    admitted: int
    pages: int
    saved: int = 0
    waits: bool = False


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A URL that may become a page of a job."""

    job_id: UUID
    page_id: UUID
    url: str
    depth: int
    redirects: int = 0
    is_list: bool = False


def is_fresh(page: FoundPage, known: Mapping[UUID, str | None]) -> bool:
    """Whether a URL that the rules let in is to join its job: it is not in it, nor does it wait to be."""
    return page.page_id not in known or known[page.page_id] not in (None, BUDGET)


def room(job: CrawlJob, visits: Sequence[Visit]) -> int | None:
    """How many more pages the budget admits after `visits`, each of which without a document gives its place back.

    But not without end: what gives no document can lead to more of its kind for ever. None when there is no budget.
    """
    max_pages = job.options.max_pages
    if max_pages is None:
        return None
    visits_left = PAGES_A_DOCUMENT * max_pages + MORE_PAGES - job.pages
    return min(max_pages - job.admitted + places_given_back(visits), visits_left)


def places_given_back(visits: Sequence[Visit]) -> int:
    """How many of `visits` brought no document."""
    return sum(visit.document is None for visit in visits)


def within_budget(job: CrawlJob, visits: Iterable[Visit]) -> list[Visit]:
    """The visits, those without their document that came when the budget was spent.

    Only a budget that was lowered lets more pages be visited than it has room for.
    """
    left = None if job.options.max_pages is None else job.options.max_pages - job.saved
    kept: list[Visit] = []
    for visit in visits:
        if visit.document is not None and left is not None:
            if left <= 0:
                kept.append(replace(visit, outcome=Outcome.SKIPPED, reason=BUDGET, document=None))
                continue
            left -= 1
        kept.append(visit)
    return kept


def is_spent(options: CrawlOptions, saved: int, admitted: int) -> bool:
    """Whether the budget is spent though pages are left to visit."""
    return options.max_pages is not None and saved >= options.max_pages and admitted > saved


def within_host_budget(
    found: Iterable[FoundPage], pages_of_hosts: Mapping[str, int], limit: int
) -> tuple[list[FoundPage], list[FoundPage]]:
    """Split found pages, in their order, into those that their hosts have room for and the others.

    `pages_of_hosts` counts the pages that a host has in the job already.
    """
    pages = Counter(pages_of_hosts)
    within: list[FoundPage] = []
    beyond: list[FoundPage] = []
    for page in found:
        host = urls.site(page.url)
        pages[host] += 1
        (within if pages[host] <= limit else beyond).append(page)
    return within, beyond


def slot_of(page_id: UUID, host_concurrency: int) -> int:
    """The slot of its origin at which a page is fetched."""
    return page_id.int % host_concurrency
