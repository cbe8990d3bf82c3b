"""The frontier's data, and its rules as pure functions: what a visit found, and what the budget lets in."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import Outcome

from crawler import urls
from crawler.scope import Scope
from crawler.sitemaps import Entry

MAX_REDIRECTS = 10
TRAP = "trap"


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


@dataclass(frozen=True, slots=True)
class Links:
    """Where a page links to. Those in `nofollow` are not followed."""

    urls: tuple[str, ...] = ()
    nofollow: Container[str] = ()


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
        return Links(self.document.links, self.document.nofollow) if self.document else self.links


@dataclass(frozen=True, slots=True)
class Postponed:
    """A visit that failed for now: the page is due again after `delay` seconds."""

    page: QueuedPage
    delay: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CrawlJob:
    """A locked row of `jobs`: `admitted` counts the places taken of `options.max_pages`."""

    job_id: UUID
    status: str
    options: CrawlOptions
    sites: frozenset[str]
    admitted: int
    pages: int
    level: int | None


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A URL that may become a page of a job."""

    job_id: UUID
    page_id: UUID
    url: str
    depth: int
    redirects: int = 0
    is_list: bool = False


@dataclass
class Findings:
    """What visits to pages of one job found: new URLs by the page that found them first, and links not followed."""

    sites: frozenset[str]
    found: dict[str, FoundPage] = field(default_factory=dict)
    finder: dict[UUID, UUID] = field(default_factory=dict)
    skipped_links: dict[UUID, Counter[str]] = field(default_factory=dict)


def findings(job: CrawlJob, visits: Iterable[Visit], known: Container[tuple[UUID, str]]) -> Findings:
    """Judge every link of `visits` by the job's rules. URLs in `known` are pages of the job already."""
    result = Findings(sites=job.sites | _redirected_sites(visits))
    if job.status == "cancelled":
        return result
    scope = Scope.of(job.options, result.sites)
    for visit in sorted(visits, key=_depth_of_candidates):
        found_on = None if visit.redirect_to else visit.page.url
        skipped = result.skipped_links.setdefault(visit.page.page_id, Counter(visit.skipped))
        for found in [*_lists(visit), *_candidates(visit, skipped, job.options)]:
            # Where depth counts, a redirect may show that a known page stands less deep than where it was found.
            is_news = bool(found.redirects) and job.level is not None
            if found.url in result.found or ((job.job_id, found.url) in known and not is_news):
                continue
            # Lists may lie anywhere: they were asked for, and what they list is judged.
            if not found.is_list and (refusal := scope.refusal(found.url, found.depth, found_on=found_on)):
                skipped[refusal] += 1
                continue
            result.found[found.url] = found
            result.finder[found.page_id] = visit.page.page_id
    return result


def _redirected_sites(visits: Iterable[Visit]) -> frozenset[str]:
    """A seed that redirects elsewhere takes its job along: the site that it leads to is meant."""
    targets = (visit.redirect_to for visit in visits if visit.page.depth == 0 and not visit.page.is_list)
    return frozenset(urls.site(target) for target in targets if target)


def _depth_of_candidates(visit: Visit) -> int:
    # A redirect is no step deeper: its target stands where the page stood.
    return visit.page.depth if visit.redirect_to else visit.page.depth + 1


def _lists(visit: Visit) -> list[FoundPage]:
    job_id, depth = visit.page.lane.job_id, visit.page.depth
    return [FoundPage(job_id, urls.page_id(job_id, url), url, depth, is_list=True) for url in visit.lists]


def _candidates(visit: Visit, skipped: Counter[str], options: CrawlOptions) -> list[FoundPage]:
    job_id, depth = visit.page.lane.job_id, _depth_of_candidates(visit)
    if visit.redirect_to:
        target, redirects = visit.redirect_to, visit.page.redirects + 1
        return [FoundPage(job_id, urls.page_id(job_id, target), target, depth, redirects, visit.page.is_list)]
    if options.sitemap == "only":
        if visit.found.urls:
            skipped["link"] += len(visit.found.urls)
        return []
    found: dict[str, FoundPage] = {}
    nofollow = visit.found.nofollow
    for link in visit.found.urls:
        if link in nofollow:
            skipped["nofollow"] += 1
            continue
        url = urls.without_tracking(link) if options.drop_tracking else link
        if url not in found and url != visit.page.url:
            found[url] = FoundPage(job_id, urls.page_id(job_id, url), url, depth)
    return list(found.values())


def room(job: CrawlJob, visits: Sequence[Visit]) -> int | None:
    """How many more pages the budget admits after `visits`, each of which without a document gives its place back.

    None when there is no budget.
    """
    if job.options.max_pages is None:
        return None
    return job.options.max_pages - job.admitted + places_given_back(visits)


def places_given_back(visits: Sequence[Visit]) -> int:
    """How many of `visits` brought no document."""
    return sum(visit.document is None for visit in visits)


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
