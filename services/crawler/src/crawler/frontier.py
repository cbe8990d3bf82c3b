"""The frontier's data, and its rules as pure functions: what a visit found, and what the budget lets in."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import Outcome

from crawler import urls
from crawler.scope import Scope
from crawler.sitemaps import Entry

MAX_REDIRECTS = 10
BUDGET = "budget"
KNOWN = "known"
LINK = "link"
NOFOLLOW = "nofollow"
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


@dataclass
class Findings:
    """What visits to pages of one job found: new URLs by the page that found them first, and links not followed.

    `skipped` are the URLs that no rule lets in, each with the reason, as far as they are news.
    """

    sites: frozenset[str]
    found: dict[str, FoundPage] = field(default_factory=dict)
    finder: dict[UUID, UUID] = field(default_factory=dict)
    skipped: dict[str, tuple[FoundPage, str]] = field(default_factory=dict)
    skipped_links: dict[UUID, Counter[str]] = field(default_factory=dict)


def findings(
    job: CrawlJob,
    visits: Iterable[Visit],
    known: Container[tuple[UUID, str]],
    known_skipped: Container[tuple[UUID, str]] = (),
) -> Findings:
    """Judge every link of `visits` by the job's rules.

    URLs in `known` are pages of the job already or wait to become some. Those in `known_skipped` are noted as skipped;
    found in another place, a rule may let them in.
    """
    result = Findings(sites=job.sites | _redirected_sites(visits))
    if job.status == "cancelled":
        return result
    scope = Scope.of(job.options, result.sites)
    for visit in sorted(visits, key=_depth_of_candidates):
        found_on = None if visit.redirect_to else visit.page.url
        skipped = result.skipped_links.setdefault(visit.page.page_id, Counter(visit.skipped))
        for found, rule in [*_lists(visit), *_candidates(visit, job.options)]:
            # Where depth counts, a redirect may show that a known page stands less deep than where it was found.
            is_news = bool(found.redirects) and job.level is not None
            if found.url in result.found or ((job.job_id, found.url) in known and not is_news):
                continue
            # Lists may lie anywhere: they were asked for, and what they list is judged.
            refusal = rule
            if not (refusal or found.is_list):
                refusal = scope.refusal(found.url, found.depth, found_on=found_on)
            if refusal:
                skipped[refusal] += 1
                if (job.job_id, found.url) not in known_skipped:
                    result.skipped.setdefault(found.url, (found, refusal))
                continue
            result.found[found.url] = found
            result.finder[found.page_id] = visit.page.page_id
            result.skipped.pop(found.url, None)
    return result


def is_fresh(page: FoundPage, known: Mapping[UUID, str | None]) -> bool:
    """Whether a URL that the rules let in is to join its job: it is not in it, nor does it wait to be."""
    return page.page_id not in known or known[page.page_id] not in (None, BUDGET)


def _redirected_sites(visits: Iterable[Visit]) -> frozenset[str]:
    """A seed that redirects elsewhere takes its job along: the site that it leads to is meant."""
    targets = (visit.redirect_to for visit in visits if visit.page.depth == 0 and not visit.page.is_list)
    return frozenset(urls.site(target) for target in targets if target)


def _depth_of_candidates(visit: Visit) -> int:
    # A redirect is no step deeper: its target stands where the page stood.
    return visit.page.depth if visit.redirect_to else visit.page.depth + 1


def _lists(visit: Visit) -> list[tuple[FoundPage, None]]:
    job_id, depth = visit.page.lane.job_id, visit.page.depth
    return [(FoundPage(job_id, urls.page_id(job_id, url), url, depth, is_list=True), None) for url in visit.lists]


def _candidates(visit: Visit, options: CrawlOptions) -> list[tuple[FoundPage, str | None]]:
    """The URLs that a visit led to, and of links that are not to be followed whatever they lead to, the reason."""
    job_id, depth = visit.page.lane.job_id, _depth_of_candidates(visit)
    if visit.redirect_to:
        target, redirects = visit.redirect_to, visit.page.redirects + 1
        page = FoundPage(job_id, urls.page_id(job_id, target), target, depth, redirects, visit.page.is_list)
        return [(page, None)]
    found: dict[str, tuple[FoundPage, str | None]] = {}
    nofollow = visit.found.nofollow
    for link in visit.found.urls:
        url = urls.without_tracking(link) if options.drop_tracking else link
        # Two links can be one URL without what tracks: it is followed if one of them is.
        if url != visit.page.url and (url not in found or found[url][1] is not None):
            rule = LINK if options.sitemap == "only" else NOFOLLOW if link in nofollow else None
            found[url] = FoundPage(job_id, urls.page_id(job_id, url), url, depth), rule
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
