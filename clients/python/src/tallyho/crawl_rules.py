"""The rules of a crawl as keyword arguments."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypedDict

from pydantic import ValidationError
from tallyho_contracts.crawls import CrawlOptions

from tallyho.errors import FieldError, RequestInvalid


class CrawlRules(TypedDict, total=False):
    """What `crawl` and `create_job` take as keywords; CrawlOptions says what each means. Left out: the default."""

    max_pages: int | None
    max_depth: int | None
    include: Sequence[str]
    exclude: Sequence[str]
    match_path: bool
    same_site: bool
    subdomains: bool
    outlinks: bool
    below: Sequence[str]
    sitemap: Literal["skip", "include", "only"]
    url_lists: Sequence[str]
    modified_since: datetime | str | None
    revalidate: bool
    drop_tracking: bool
    canonical: bool
    robots_tags: bool
    max_failures: int | None
    delay: float | None
    markdown: bool
    render: Literal["none", "browser"]
    keep_html: bool
    max_host_pages: int | None


class Limits(TypedDict, total=False):
    """What `change` takes as keywords: the rules that can change while a job runs. None: no limit."""

    max_pages: int | None
    max_failures: int | None
    delay: float | None


def crawl_options(given: Mapping[str, object]) -> CrawlOptions:
    """The rules that were given, checked; raises RequestInvalid, or TypeError for a name that is none of a rule."""
    for name in given:
        if name not in CrawlOptions.model_fields:
            raise TypeError(f"a crawl has no rule {name!r}; it has {', '.join(CrawlOptions.model_fields)}")
    try:
        return CrawlOptions.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        errors = tuple(FieldError(".".join(map(str, fault["loc"])), fault["msg"]) for fault in faults)
        raise RequestInvalid("", code="invalid", errors=errors) from error
