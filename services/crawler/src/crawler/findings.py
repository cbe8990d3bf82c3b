"""What visits found, judged by their job's rules. Pure."""

from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from tallyho_contracts.crawls import CrawlOptions

from crawler import urls
from crawler.frontier import CrawlJob, FoundPage, Visit
from crawler.scope import Scope

LINK = "link"
NOFOLLOW = "nofollow"


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
        for found, rule in [*_lists(visit), *_candidates(visit, job.options, known)]:
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


def _candidates(
    visit: Visit, options: CrawlOptions, known: Container[tuple[UUID, str]]
) -> list[tuple[FoundPage, str | None]]:
    """The URLs that a visit led to, and of links that are not to be followed whatever they lead to, the reason.

    Most links of a page lead to `known` pages, which are left out before anything is made of them.
    """
    job_id, depth = visit.page.lane.job_id, _depth_of_candidates(visit)
    if visit.redirect_to:
        target, redirects = visit.redirect_to, visit.page.redirects + 1
        page = FoundPage(job_id, urls.page_id(job_id, target), target, depth, redirects, visit.page.is_list)
        return [(page, None)]
    found: dict[str, tuple[FoundPage, str | None]] = {}
    nofollow = visit.found.nofollow
    for link in visit.found.urls:
        url = urls.without_tracking(link) if options.drop_tracking else link
        if url == visit.page.url or (job_id, url) in known:
            continue
        # Two links can be one URL without what tracks: it is followed if one of them is.
        if url not in found or found[url][1] is not None:
            rule = LINK if options.sitemap == "only" else NOFOLLOW if link in nofollow else None
            found[url] = FoundPage(job_id, urls.page_id(job_id, url), url, depth), rule
    return list(found.values())
