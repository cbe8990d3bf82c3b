"""What a page asks of crawlers."""

import time
from datetime import UTC, datetime

import pytest
from crawler.robots_tags import PageRules, page_rules

NOTHING, NOINDEX, NOFOLLOW = PageRules(), PageRules(noindex=True), PageRules(nofollow=True)
NONE = PageRules(noindex=True, nofollow=True)
NOW = datetime(2010, 6, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "content", "rules"),
    [
        ("robots", "noindex", NOINDEX),
        ("ROBOTS", " NoFollow ", NOFOLLOW),
        ("robots", "noindex,nofollow", NONE),
        ("robots", "none", NONE),
        ("robots", "all, index, follow, noarchive, nosnippet, max-snippet:0", NOTHING),
        ("tallyho", "none", NONE),
        ("googlebot", "none", NOTHING),
        ("description", "noindex", NOTHING),
        ("robots", "noindexing", NOTHING),
        ("robots", "unavailable_after: 25-Jun-2010 15:00:00 EST", NOINDEX),
        ("robots", "max-snippet:0, unavailable_after: Fri, 25 Jun 2010 15:00:00 GMT, nofollow", NONE),
        ("googlebot", "unavailable_after: 25-Jun-2010 15:00:00 EST", NOTHING),
    ],
)
def test_meta_element_speaks_to_all_or_to_us(name: str, content: str, rules: PageRules) -> None:
    assert page_rules("Tallyho", [(name, content)], [], NOW) == rules


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        (["noindex"], NOINDEX),
        (["noindex", "nofollow"], NONE),
        (["NoIndex, NoFollow"], NONE),
        (["tallyho: noindex"], NOINDEX),
        (["TALLYHO : noindex, nofollow"], NONE),
        (["*: none"], NONE),
        (["googlebot: noindex"], NOTHING),
        (["otherbot: noindex, nofollow"], NOTHING),
        (["otherbot: noindex, tallyho: nofollow"], NOFOLLOW),
        (["otherbot: noindex", "nofollow"], NOFOLLOW),
        (["max-snippet: 20, noindex"], NOINDEX),
        (["unavailable_after: Sunday, 27-Jun-10 15:00:00 PST, nofollow"], NOFOLLOW),
        (["unavailable_after: 25 Jun 2010 15:00:00 PST"], NOINDEX),
        (["unavailable_after: 27 Jun 2010 15:00:00 PST"], NOTHING),
        (["unavailable_after: Friday, 25-Jun-10 15:00:00 PST"], NOINDEX),
        (["tallyho: nofollow, unavailable_after: 2010-06-26T11:59:59Z"], NONE),
        (["unavailable_after: 2010-06-26"], NOTHING),
        (["unavailable_after: 2010-06-25, nofollow"], NONE),
        (["unavailable_after: soon", "unavailable_after", "unavailable_after:"], NOTHING),
        (["otherbot: unavailable_after: Sun, 25 Jun 2010 15:00:00 PST, noindex"], NOTHING),
        (["otherbot: max-snippet: 20, noindex"], NOTHING),
        (["", ","], NOTHING),
    ],
)
def test_header_speaks_to_all_or_to_whom_it_names(values: list[str], rules: PageRules) -> None:
    assert page_rules("Tallyho", [], values, NOW) == rules


def test_hostile_values_cost_little() -> None:
    dates = "unavailable_after: 1 jan 2099," * 400_000
    started = time.process_time()

    assert page_rules("Tallyho", [("robots", dates)] * 10_000, [dates[:8_000]] * 100, NOW) == PageRules()
    assert time.process_time() - started < 2


def test_all_that_is_said_holds_together() -> None:
    assert page_rules("Tallyho", [("robots", "index"), ("tallyho", "nofollow")], ["noindex"], NOW) == NONE
