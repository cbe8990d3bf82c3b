"""One canonical spelling and one identity for each page."""

import time
from uuid import NAMESPACE_URL, UUID, uuid5

import ada_url
import pytest
from crawler.urls import canonical, document_id, join, origin, page_id, redacted, site, without_tracking
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BASE = "https://example.com/docs/a/page.html?x=1"
# An example may take long where others work.
ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("url", "spelling"),
    [
        ("http://example.com", "http://example.com/"),
        ("HTTP://EXAMPLE.com:80/Path", "http://example.com/Path"),
        ("https://example.com:443/", "https://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("http://example.com/a/../b/./c", "http://example.com/b/c"),
        ("http://example.com/a/%2e%2e/b", "http://example.com/b"),
        ("http://example.com/a/", "http://example.com/a/"),
        ("http://example.com/a#part", "http://example.com/a"),
        ("http://example.com/a?#part", "http://example.com/a?"),
        ("http://example.com/?b=2&a=1&a=%20+", "http://example.com/?b=2&a=1&a=%20+"),
        ("http://user:secret@example.com/", "http://example.com/"),
        ("http://user@example.com:8080/x@y?z=@", "http://example.com:8080/x@y?z=@"),
        ("http://us%40er:p@ss@example.com/", "http://example.com/"),
        ("http://example.com?q=a@b", "http://example.com/?q=a@b"),
        ("  http://example.com/a\n\tb ", "http://example.com/ab"),
        ("http:\\\\example.com\\a", "http://example.com/a"),
        ("http://bücher.example/ü?ü", "http://xn--bcher-kva.example/%C3%BC?%C3%BC"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://127。0。0。1/", "http://127.0.0.1/"),
        ("http://[::FFFF:1.2.3.4]/", "http://[::ffff:102:304]/"),
    ],
)
def test_canonical_spelling(url: str, spelling: str) -> None:
    assert canonical(url) == spelling


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/a",
        "/a",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
        "ws://example.com/",
        "http://",
        "http://user@/",
        "http://exa mple.com/",
        "http://example.com:99999/",
        "http://256.256.256.256/",
        "http://[::1/",
        "http://example.com/\ud800",
        "http://example.com/" + "a" * 2048,
    ],
)
def test_what_can_not_be_fetched_has_no_canonical_spelling(url: str) -> None:
    assert canonical(url) is None


def test_length_counts_what_is_kept() -> None:
    longest = "http://example.com/".ljust(2048, "a")

    assert canonical(longest + "#" + "f" * 100) == longest
    assert canonical(longest + "a") is None
    assert join(longest, "?" + "q" * 2048) is None


@ANY_MACHINE
@given(st.text(max_size=60))
def test_canonical_spelling_is_its_own(rest: str) -> None:
    url = canonical("http://" + rest)

    if url is not None:
        assert canonical(url) == url
        assert url.isascii()
        assert join(BASE, url) == url
        assert url.startswith(origin(url) + "/")


@pytest.mark.parametrize(
    ("href", "target"),
    [
        ("other.html", "https://example.com/docs/a/other.html"),
        ("../b/", "https://example.com/docs/b/"),
        ("/", "https://example.com/"),
        ("?y=2", "https://example.com/docs/a/page.html?y=2"),
        ("", "https://example.com/docs/a/page.html?x=1"),
        ("//other.example/x#y", "https://other.example/x"),
        ("http://user:secret@other.example", "http://other.example/"),
        (" \thttps://other.example/a b ", "https://other.example/a%20b"),
        ("javascripts/index.html", "https://example.com/docs/a/javascripts/index.html"),
    ],
)
def test_link_is_resolved_against_its_page(href: str, target: str) -> None:
    assert join(BASE, href) == target


@pytest.mark.parametrize(
    "href",
    [
        "#top",
        "javascript:void(0)",
        " JavaScript:void(0)",
        "mailto:a@b.c",
        "data:,x",
        "tel:+1",
        "ftp://a/",
        "http://[",
        "\ud800",
    ],
)
def test_link_that_leads_to_no_page_is_dropped(href: str) -> None:
    assert join(BASE, href) is None


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?utm_source=x", ""),
        ("?a=1&utm_campaign=x&b=%20+&UTM_Medium", "?a=1&b=%20+"),
        ("?fbclid=1&gclid=2&q=fbclid", "?q=fbclid"),
        ("?gad_source=1&mtm_campaign=x&hsa_acc=1&ScCid=2&_kx=3&mtm=4", "?mtm=4"),
        ("?utm=1&source=2&gclids=3", "?utm=1&source=2&gclids=3"),
        ("?b&a=&&b", "?b&a=&&b"),
        ("?", "?"),
        ("", ""),
    ],
)
def test_tracking_parameters_are_dropped_and_others_left_alone(query: str, kept: str) -> None:
    assert without_tracking(f"https://example.com/a{query}") == f"https://example.com/a{kept}"


def test_origin_names_scheme_host_and_port() -> None:
    assert origin("https://www.example.com:8443/a/b") == "https://www.example.com:8443"
    assert origin("http://[::1]:8080/") == "http://[::1]:8080"


def test_site_ignores_scheme_and_www_and_keeps_the_port() -> None:
    assert site("http://www.example.com/a") == site("https://example.com/b") == "example.com"
    assert site("https://www.example.com:8443/") == "example.com:8443"
    assert site("http://docs.example.com/") != "example.com"


def test_page_is_identified_by_job_and_url_and_document_by_url() -> None:
    job_id = UUID("0b9ff7a6-4f5e-4b51-8c57-6a2f7e8f9a10")
    url = "https://example.com/"

    assert page_id(job_id, url) == uuid5(job_id, url)
    assert document_id(url) == uuid5(NAMESPACE_URL, url)


@pytest.mark.parametrize(
    ("url", "logged"),
    [
        ("https://user:secret@example.com/a?b=c", "https://example.com/a?b=c"),
        ("https://user@example.com", "https://example.com"),
        ("ftp://user:se@cret@example.com/", "ftp://example.com/"),
        ("//u:secret@example.com/", "//example.com/"),
        ("https:u:secret@example.com/", "https:example.com/"),
        (r"https:\\u:secret@example.com\a", r"https:\\example.com\a"),
        ("https://example.com:8443/a:b@c", "https://example.com:8443/a:b@c"),
        ("https://example.com/?token=secret&page=2", "https://example.com/?token=***&page=2"),
        ("https://example.com/?page=2&ACCESS_TOKEN=secret#x", "https://example.com/?page=2&ACCESS_TOKEN=***#x"),
        ("https://example.com/?X-Amz-Signature=secret&key=secret", "https://example.com/?X-Amz-Signature=***&key=***"),
        ("https://example.com/?api_key=secret;sid=secret", "https://example.com/?api_key=***;sid=***"),
        ("https://example.com/#access_token=secret", "https://example.com/#access_token=***"),
        ("http://[broken?password=secret", "http://[broken?password=***"),
        (
            "https://example.com/@user?author=me&keyword=x&monkey=1",
            "https://example.com/@user?author=me&keyword=x&monkey=1",
        ),
    ],
)
def test_url_is_logged_without_its_secrets(url: str, logged: str) -> None:
    assert redacted(url) == logged


def test_url_that_names_a_secret_again_and_again_costs_little() -> None:
    url = f"https://example.com/?{'token' * 400}"
    started = time.process_time()

    assert [redacted(url) for _ in range(200)] == [url] * 200
    assert time.process_time() - started < 0.5


@ANY_MACHINE
@given(
    st.sampled_from(["/", "/docs/", "/docs/page", "/docs/page?x=/y/", "/?q=a/b"]),
    st.text(st.sampled_from("aé1/.?&:;=@\\ \t\n%"), max_size=8),
)
def test_link_is_joined_as_the_standard_has_it_whatever_was_joined_before(place: str, href: str) -> None:
    base = f"https://example.com{place}"
    try:
        target = canonical(ada_url.join_url(base, href))
    except ValueError:
        target = None

    assert join(base, href) == target
