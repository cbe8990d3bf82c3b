"""The ledger of a job: every URL that it met, each with one state and one reason.

A URL that became a page of the job is the job tracker's to count; one that was never to be fetched is the crawler's.
"""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from tallyho_contracts.event import Count, Message, Text
from tallyho_contracts.pages import Page, PageState

BEYOND = (
    "Links beyond the first 5,000 of a page and entries beyond the bounds of a list, of all pages and lists, as they"
    " are written: they were not looked at, and are not among the URLs met."
)
Reason = Annotated[Text, StringConstraints(min_length=1, max_length=200)]

# What each reason means, by the states in which it is given. The list is closed: a reason that is not in it is a fault.
# One that ends with `*` stands for all that begin so: `http_404`, `robots_timeout`.
REASONS: dict[PageState, dict[str, str]] = {
    PageState.COMPLETED: {
        "created": "saved; no job had saved it before",
        "updated": "saved; its content differs from what was saved before",
        "unchanged": "visited; its content is what was saved before",
    },
    PageState.FAILED: {
        "http_*": "the server answered with this status",
        "timeout": "the server took too long",
        "connection": "no connection, or it broke",
        "dns": "the host's name leads to no address",
        "tls": "the server's certificate or its TLS is not valid",
        "private_address": "the host's address is not a public one",
        "bad_response": "the answer is not HTTP",
        "headers_too_large": "the answer's headers are too large",
        "too_large": "the body is larger than the crawler takes",
        "truncated": "the body broke off",
        "encoding": "the body can't be decoded as its Content-Encoding says",
        "bad_redirect": "it redirects to what is no http(s) URL",
        "redirect_loop": "it redirects to itself",
        "too_many_redirects": "too many redirects in a row led here",
        "unreachable": "the site's robots.txt could not be had, so nothing of it may be fetched",
        "robots_*": "the site's robots.txt could not be had for this reason, so nothing of it may be fetched",
        "parser_*": "it could not be parsed: in time (`parser_timeout`), within the memory for it, or at all",
        "pdf_*": "it is a PDF that can't be read for this reason: encrypted, or damaged",
        "render_*": "the browser could not show it: in time (`render_timeout`), or at all",
        "internal_error": "a fault of the crawler's own; its log has the rest",
    },
    PageState.SKIPPED: {
        "robots": "the site's robots.txt disallows it",
        "redirect": "it redirects; where it leads is a URL of its own",
        "meta_refresh": "it sends its readers elsewhere at once; where it leads is a URL of its own",
        "list": "it is a list of URLs, which was read; those in it are URLs of their own",
        "no_list": "it was named as a list of URLs, and there is none",
        "gone": "the server says that there is no such page any more; what was saved before stays",
        "canonical": "it names another page as its canonical one, which is a URL of its own",
        "noindex": "it says that it is not to be kept",
        "nofollow": "where it was found, it is said that it is not to be followed",
        "link": "it was found as a link only, and the job visits only what its lists name",
        "not_modified": "a list says that it was not changed since `modified_since`",
        "nested": "it is a list of URLs, named by too many others in a row",
        "content_type": "it is of a type that is not kept",
        "depth": "it is further from the seeds than `max_depth`",
        "budget": "`max_pages` documents, or the pages for them, were spoken for, or the job was cancelled first",
        "trap": "it looks like one of endlessly many, or its host has `max_host_pages` already",
        "off_site": "it is not on the seeds' sites",
        "not_below": "it is not below the paths of `below`",
        "excluded": "a pattern of `exclude` matches",
        "not_included": "no pattern of `include` matches",
        "known": "the job that this one retries visited it, or had no room for it",
        "cancelled": "the job was cancelled before it started",
        "invalid": "it was given as a seed, and is no http(s) URL",
    },
    PageState.CANCELLED: {"cancelled": "the job was cancelled before it was visited"},
}


def is_reason(state: PageState, reason: str | None) -> bool:
    """Whether a reason is in the list, for that state. What is not at its end has none.

    Nor has what a crawler completed that did not yet give one.
    """
    if reason is None:
        return state in (PageState.PENDING, PageState.RUNNING, PageState.COMPLETED)
    known = REASONS.get(state, {})
    return reason in known or any(name[-1] == "*" and reason.startswith(name[:-1]) for name in known)


class UrlsByReason(Message):
    """How many URLs of a job are in a state for one reason."""

    state: PageState
    reason: Reason | None = Field(default=None, description="None only for pages that are not at their end.")
    urls: int = Field(ge=1, le=2**63 - 1)
    is_page: bool = Field(default=True, description="Pages are visited; the others were never to be.")


class JobLedger(Message):
    """Every URL that a job met, counted by state and reason.

    `urls_met` is counted by the crawler, apart from the entries: once the job is at its end, they add up to it.
    """

    job_id: UUID
    urls_met: Count
    entries: tuple[UrlsByReason, ...] = Field(description="The most frequent of a state first.")
    beyond: Count = Field(default=0, description=BEYOND)


class UrlsCount(Message):
    """`url.count.v1`, gateway to crawler: the URLs that a job met."""

    job_id: UUID


class UrlsCounted(Message):
    """The reply to `url.count.v1`. A job that the crawler does not know has met none."""

    urls_met: Count = Field(description="All of them, pages and others.")
    beyond: Count = Field(default=0, description=BEYOND)
    skipped: tuple[UrlsByReason, ...] = Field(
        max_length=200, description="Those that are no pages of the job, the most frequent reason first."
    )


class SkippedUrlsQuery(Message):
    """`url.list.v1`, gateway to crawler: a keyset page of the URLs that are no pages of a job, by reason and id."""

    job_id: UUID
    reason: Reason | None = None
    after_reason: Reason | None = Field(default=None, description="With `after`: the last URL already seen.")
    after: UUID | None = None
    limit: int = Field(default=100, ge=1, le=1000)


class SkippedUrlList(Message):
    """The reply to `url.list.v1`. `page_id` is what the URL's id as a page of the job would be."""

    urls: tuple[Page, ...]
    has_more: bool = False


class UrlList(Message):
    """URLs that a job met, as the gateway lists them: its pages first, then those that are none."""

    urls: tuple[Page, ...]
    next: Text | None = Field(default=None, description="Pass it as `after` for the next page; none at the end.")
