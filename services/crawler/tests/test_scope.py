"""Which found URLs are followed."""

import time

import pytest
from crawler import urls
from crawler.scope import Scope
from tallyho_contracts.crawls import CrawlOptions

SITES = frozenset({"example.com"})


def refusal(url: str, depth: int = 1, **options: object) -> str | None:
    scope = Scope.of(CrawlOptions.model_validate(options), SITES)
    return scope.refusal(url, depth, found_on="https://example.com/")


def test_link_on_the_site_is_followed() -> None:
    assert refusal("https://www.example.com/a") is None


def test_depth_is_bounded() -> None:
    assert refusal("https://example.com/", depth=2, max_depth=2) is None
    assert refusal("https://example.com/", depth=3, max_depth=2) == "depth"
    assert refusal("https://example.com/", depth=1, max_depth=0) == "depth"


@pytest.mark.parametrize("url", ["https://other.com/", "https://docs.example.com/", "https://example.com:8443/"])
def test_other_site_is_followed_only_if_allowed(url: str) -> None:
    assert refusal(url) == "off_site"
    assert refusal(url, same_site=False) is None


@pytest.mark.parametrize("url", ["https://docs.example.com/", "http://a.b.example.com/"])
def test_subdomains_belong_to_the_site_if_wanted(url: str) -> None:
    assert refusal(url, subdomains=True) is None
    assert refusal("https://notexample.com/", subdomains=True) == "off_site"
    assert refusal("https://docs.example.com:8443/", subdomains=True) == "off_site"


def test_subdomains_of_a_seed_at_www_are_those_of_its_site() -> None:
    scope = Scope.of(CrawlOptions(subdomains=True), frozenset({urls.site("https://www.example.com/")}))

    assert scope.refusal("https://docs.example.com/", 1) is None


def test_links_lead_down_only_if_wanted() -> None:
    below = {"below": ("/docs/a", "/blog/"), "subdomains": True}

    assert refusal("https://example.com/docs/a/b", **below) is None
    assert refusal("https://example.com/docs/a?b", **below) is None
    assert refusal("https://example.com/blog/", **below) is None
    assert refusal("https://example.com/docs/ab", **below) == "not_below"
    assert refusal("https://example.com/?page=/docs/a", **below) == "not_below"
    assert refusal("https://example.com/welcome", depth=0, **below) is None  # a seed redirected there
    assert refusal("https://docs.example.com/", **below) is None


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/docs/a b", "https://example.com/docs/a%20b/c"),
        ("/docs/a b", "https://example.com/docs/a%20b"),
        ("/ü", "https://example.com/%C3%BC/x"),
        ("/docs/../blog/", "https://example.com/blog/x"),
        ("//a", "https://example.com//a/x"),
        ("docs2/", "https://example.com/docs2/x"),  # of jobs from before this was refused
    ],
)
def test_paths_are_compared_in_their_canonical_spelling(path: str, url: str) -> None:
    assert refusal(url, below=(path,)) is None
    assert refusal("https://example.com/else", below=(path,)) == "not_below"


def test_links_to_other_sites_lead_anywhere() -> None:
    assert refusal("https://other.com/", below=("/docs/",), same_site=False) is None
    assert refusal("https://example.com/", below=("/docs/",), same_site=False) == "not_below"


def test_outlinks_are_followed_one_step_far() -> None:
    scope = Scope.of(CrawlOptions(outlinks=True, include=("/docs/",), exclude=("secret",)), SITES)
    on_site, elsewhere = "https://example.com/docs/", "https://other.com/"

    assert scope.refusal("https://other.com/a", 1, found_on=on_site) is None
    assert scope.refusal("https://other.com/b", 2, found_on=elsewhere) == "off_site"
    assert scope.refusal("https://third.com/", 1, found_on=None) is None  # an outlink redirected there
    assert scope.refusal("https://other.com/secret", 1, found_on=on_site) == "excluded"
    assert scope.refusal("https://example.com/about", 1, found_on=on_site) == "not_included"


def test_patterns_can_be_searched_in_the_path_only() -> None:
    options = {"include": ("example|^/docs/[a-z]+$",), "exclude": ("secret",), "match_path": True}

    assert refusal("https://example.com/docs/abc?secret=1", **options) is None
    assert refusal("https://example.com/docs/secret", **options) == "excluded"
    assert refusal("https://example.com/other", **options) == "not_included"


def test_exclude_wins_over_include() -> None:
    scope = Scope.of(CrawlOptions(include=("/docs/", "/blog/"), exclude=(r"\.pdf$", "/blog/20[01]")), SITES)

    assert scope.refusal("https://example.com/docs/a", 1) is None
    assert scope.refusal("https://example.com/blog/2020", 1) is None
    assert scope.refusal("https://example.com/docs/a.pdf", 1) == "excluded"
    assert scope.refusal("https://example.com/blog/2015", 1) == "excluded"
    assert scope.refusal("https://example.com/about", 1) == "not_included"


def test_pattern_that_blows_up_elsewhere_takes_linear_time() -> None:
    scope = Scope.of(CrawlOptions(exclude=("(a*)*b$", "(a|a)*c$")), SITES)
    started = time.process_time()

    assert scope.refusal("https://example.com/" + "a" * 2000, 1) is None
    assert time.process_time() - started < 1


def test_trap_is_not_followed_unless_another_rule_says_why() -> None:
    trap = "https://example.com/a/a/a"

    assert refusal(trap) == "trap"
    assert refusal(trap, exclude=["a/a"]) == "excluded"
    assert refusal("https://other.com/a/a/a") == "off_site"


@pytest.mark.parametrize(
    "patterns",
    [
        (r"/b/", r"(?i)/C/", r"/d$"),
        (r"(?P<x>/b/)", r"(?P<x>/[Cc]/)", r"/d$"),
        (r"\Q/b/", r"/[cC]/", r"/d$"),
        (r"/b/", r"/c/|/C/", r"/d$", *(f"(?:{n}|y){{300}}" for n in range(50))),
    ],
    ids=["flags", "groups of one name", "quoted", "too large together"],
)
def test_one_of_many_patterns_is_enough(patterns: tuple[str, ...]) -> None:
    excluded = [refusal(f"https://example.com{path}", exclude=patterns) for path in ("/b/", "/C/", "/c/", "/d")]
    others = [refusal(f"https://example.com{path}", exclude=patterns) for path in ("/", "/B/", "/D", "/d/")]

    assert excluded == ["excluded"] * 4
    assert others == [None] * 4


def test_many_patterns_cost_little_more_than_one() -> None:
    patterns = tuple(f"/section{number}/.*private" for number in range(100))
    scope = Scope.of(CrawlOptions(exclude=patterns), SITES)
    started = time.process_time()

    assert not any(scope.refusal(f"https://example.com/docs/{n}/page.html", 1) for n in range(5_000))
    assert time.process_time() - started < 0.5
