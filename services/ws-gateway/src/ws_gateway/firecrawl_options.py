"""What clients of Firecrawl's v2 API may ask of a crawl, and what it means here. Pure.

An option without a counterpart is ignored where the documents are the same without it, and refused where they are not.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, Literal
from uuid import UUID

from ada_url import URL
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.event import SmallCount
from tallyho_contracts.jobs import Job, JobCreate

from ws_gateway.inputs import MAX_NAME, Patterns, Seed
from ws_gateway.problems import MAX_FIELD_ERRORS, FieldError

DEFAULT_LIMIT = 10_000
FORMATS = ("markdown", "links")

_NO_BROWSER = "pages are read as they are served, without a browser"
_NO_MODEL = "no language model is asked"
_WHOLE = "the main content of a page is kept, as a whole"
_SAME_REQUEST = "all pages are asked for in the same way"
_ANEW = "every page is fetched anew"
_AS_FOUND = "content is kept as it is found"
_ROBOTS = "robots.txt is obeyed, in the crawler's own name"

# Why an option is refused, unless it says no: false, 0, empty or null.
_REFUSED = {
    "prompt": _NO_MODEL,
    "ignoreQueryParameters": "each query is a page of its own",
    "ignoreRobotsTxt": _ROBOTS,
    "robotsUserAgent": _ROBOTS,
    "webhook": "nobody is called back; watch or poll the crawl",
    "zeroDataRetention": "documents are kept",
}
_IGNORED = frozenset({"deduplicateSimilarURLs", "maxConcurrency", "integration", "origin"})

_REFUSED_OF_A_PAGE = {
    "includeTags": _WHOLE,
    "excludeTags": _WHOLE,
    "headers": _SAME_REQUEST,
    "location": _SAME_REQUEST,
    "mobile": _SAME_REQUEST,
    "waitFor": _NO_BROWSER,
    "actions": _NO_BROWSER,
    "profile": _NO_BROWSER,
    "minAge": _ANEW,
    "lockdown": _ANEW,
    "redactPII": _AS_FOUND,
    "checkPromptInjection": _AS_FOUND,
    "threatProtection": _AS_FOUND,
    "domainTools": _NO_MODEL,
}
_IGNORED_OF_A_PAGE = frozenset(
    {
        *("auditMetadata", "blockAds", "fastMode", "integration", "maxAge", "parsers", "proxy", "removeBase64Images"),
        *("skipTlsVerification", "storeInCache", "timeout", "toolDetail", "useMock"),
    }
)

# The last part of a path that names a file: what lies beside it is meant, not what lies below it.
_FILE = re.compile(r"\.[A-Za-z0-9]{2,}$")


def _with_scheme(url: object) -> object:
    return f"http://{url}" if isinstance(url, str) and url and "://" not in url else url


class _Request(BaseModel):
    # What is not listed is judged by `refusals`.
    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel)


class ScrapeOptions(_Request):
    """What is to be kept of each page."""

    formats: list[str | dict[str, Any]] | None = Field(default=None, description="markdown and links.")
    only_main_content: bool | None = Field(default=None, description="Can't be false.")

    @property
    def format_names(self) -> list[str]:
        """The formats, however they are spelled."""
        return [one if isinstance(one, str) else str(one.get("type")) for one in self.formats or ("markdown",)]


class CrawlRequest(_Request):
    """The body of `POST /v2/crawl`."""

    url: Annotated[Seed, BeforeValidator(_with_scheme)]
    limit: int | None = Field(default=None, ge=1, le=2**63 - 1, description="Documents; 10,000 unless given.")
    max_discovery_depth: SmallCount | None = None
    include_paths: Patterns | None = Field(default=None, max_length=100, description="RE2.")
    exclude_paths: Patterns | None = Field(default=None, max_length=100, description="RE2.")
    regex_on_full_url: bool | None = Field(default=None, alias="regexOnFullURL")
    crawl_entire_domain: bool | None = None
    allow_external_links: bool | None = None
    allow_subdomains: bool | None = None
    sitemap: Literal["include", "skip", "only"] | None = None
    delay: float | None = Field(
        default=None, ge=0, le=3600, allow_inf_nan=False, description="Seconds between requests to a host."
    )
    scrape_options: ScrapeOptions | None = None

    def to_create(self, job_id: UUID, idempotency_key: str | None) -> JobCreate:
        """The tracker's request for this body."""
        folder = _scope_of(self.url)
        options = CrawlOptions(
            max_pages=self.limit or DEFAULT_LIMIT,
            max_depth=self.max_discovery_depth,
            include=self.include_paths or (),
            exclude=self.exclude_paths or (),
            match_path=not self.regex_on_full_url,
            outlinks=bool(self.allow_external_links),
            subdomains=bool(self.allow_subdomains),
            below=() if self.crawl_entire_domain or folder == "/" else (folder,),
            sitemap=self.sitemap or "include",
            delay=self.delay or None,
            markdown="markdown" in (self.scrape_options or ScrapeOptions()).format_names,
        )
        name = self.url.partition("://")[2].rstrip("/")[:MAX_NAME]
        return JobCreate(job_id=job_id, idempotency_key=idempotency_key, name=name, seeds=(self.url,), options=options)


def refusals(request: CrawlRequest) -> list[FieldError]:
    """Which options of a request can't be met, and why."""
    found = list(islice(_refusals("", request, _REFUSED, _IGNORED), MAX_FIELD_ERRORS))
    if page := request.scrape_options:
        prefix = "scrapeOptions."
        found += islice(_refusals(prefix, page, _REFUSED_OF_A_PAGE, _IGNORED_OF_A_PAGE), MAX_FIELD_ERRORS)
        if page.only_main_content is False:
            found.append(_not_supported(f"{prefix}onlyMainContent", _WHOLE))
        found += [
            _not_supported(f"{prefix}formats", f"{name} is not kept of a page; markdown and links are")
            for name in page.format_names
            if name not in FORMATS
        ]
    return found


def _refusals(
    prefix: str, model: _Request, refused: Mapping[str, str], ignored: frozenset[str]
) -> Iterator[FieldError]:
    for name, value in (model.model_extra or {}).items():
        if name in refused and value:
            yield _not_supported(f"{prefix}{name}", refused[name])
        elif name not in refused and name not in ignored:
            yield FieldError(field=f"{prefix}{name}"[:200], message="is not known here")


def _not_supported(field: str, why: str) -> FieldError:
    return FieldError(field=field, message=f"is not supported: {why}")


def _scope_of(url: str) -> str:
    """The path to whose pages a crawl of `url` keeps, with what lies below it."""
    path = URL(url).pathname
    folder, _, last = path.rpartition("/")
    return f"{folder}/" if _FILE.search(last) else path


def options_of(job: Job) -> dict[str, Any]:
    """A job's options in Firecrawl's words."""
    options = job.options
    return {
        "limit": options.max_pages,
        "maxDiscoveryDepth": options.max_depth,
        "includePaths": options.include,
        "excludePaths": options.exclude,
        "regexOnFullURL": not options.match_path,
        "sitemap": options.sitemap,
        "delay": options.delay,
        "crawlEntireDomain": not options.below,
        "allowExternalLinks": options.outlinks or not options.same_site,
        "allowSubdomains": options.subdomains,
        "scrapeOptions": {"formats": FORMATS if options.markdown else ("links",)},
    }
