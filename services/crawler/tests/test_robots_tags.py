"""What a page asks of crawlers."""

import pytest
from crawler.robots_tags import PageRules, page_rules

NOTHING, NOINDEX, NOFOLLOW = PageRules(), PageRules(noindex=True), PageRules(nofollow=True)
NONE = PageRules(noindex=True, nofollow=True)


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
    ],
)
def test_meta_element_speaks_to_all_or_to_us(name: str, content: str, rules: PageRules) -> None:
    assert page_rules("Tallyho", [(name, content)], []) == rules


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
        (["unavailable_after: 25 Jun 2010 15:00:00 PST"], NOTHING),
        (["unavailable_after: Sunday, 25-Jun-10 15:00:00 PST, noindex"], NOINDEX),
        (["otherbot: unavailable_after: Sun, 25 Jun 2010 15:00:00 PST, noindex"], NOTHING),
        (["otherbot: max-snippet: 20, noindex"], NOTHING),
        (["", ","], NOTHING),
    ],
)
def test_header_speaks_to_all_or_to_whom_it_names(values: list[str], rules: PageRules) -> None:
    assert page_rules("Tallyho", [], values) == rules


def test_all_that_is_said_holds_together() -> None:
    assert page_rules("Tallyho", [("robots", "index"), ("tallyho", "nofollow")], ["noindex"]) == NONE
