"""URLs that a server makes up without end."""

import pytest
from crawler.traps import MAX_LINKS_FROM_A_SEED, MAX_PARAMETERS, MAX_SEGMENTS, is_trap

HOST = "https://example.com"


def trapped(path: str, *, depth: int = 1, max_depth: int | None = None) -> bool:
    return is_trap(HOST + path, depth, max_depth)


@pytest.mark.parametrize(
    "path",
    [
        "/a" * 3,
        "/a/b" * 3,
        "/docs/a/b/c/d/e/" + "a/b/c/d/e/" * 2,
        "/x/a/y/a/z/a/w/a/v/a",
        "/" + "/".join(map(str, range(MAX_SEGMENTS + 1))),
        "/?" + "a=1&" * 3 + "a=1",
        "/?" + "&".join(f"p{number}=1" for number in range(MAX_PARAMETERS + 1)),
    ],
)
def test_url_that_goes_in_circles_is_a_trap(path: str) -> None:
    assert trapped(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a/a",
        "/a/b/a/b",
        "/2011/11/11/",
        "/x/a/y/a/z/a/w/a",
        "/docs/" + "/".join(map(str, range(MAX_SEGMENTS - 1))),
        "/search?tag=1&tag=2&tag=3&tag=4&tag=5",
        "/?" + "a=1&" * 2 + "a=1",
        "/?" + "&".join(f"p{number}=1" for number in range(MAX_PARAMETERS)),
        "/org/project/blob/main/src/main/java/org/project/core/internal/util/Main.java",
    ],
)
def test_url_of_a_real_site_is_none(path: str) -> None:
    assert not trapped(path)


def test_host_with_many_labels_is_a_trap() -> None:
    assert is_trap(f"https://{'a.' * 9}example.com/", 1, None)
    assert not is_trap(f"https://{'a.' * 8}example.com/", 1, None)


def test_chain_of_links_has_an_end_unless_its_length_was_asked_for() -> None:
    assert not trapped("/month/250", depth=MAX_LINKS_FROM_A_SEED)
    assert trapped("/month/251", depth=MAX_LINKS_FROM_A_SEED + 1)
    assert not trapped("/month/251", depth=MAX_LINKS_FROM_A_SEED + 1, max_depth=1000)
