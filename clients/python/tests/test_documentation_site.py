from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from tallyho.documentation_site import reachable_pages, serve_folder, write_documentation_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_documentation_site(folder)
    return folder


@pytest.fixture(scope="module")
def links(site: Path) -> tuple[set[str], set[str]]:
    return reachable_pages(site)


def test_site_has_hundreds_of_pages_and_all_are_reachable(site: Path, links: tuple[set[str], set[str]]) -> None:
    found, broken = links
    written = {path.name for path in site.glob("*.html")}

    assert len(found) > 300
    assert found == (written - {"index.html"}) | {""}
    assert broken
    assert not broken & written


def test_pages_are_what_pydoc_writes(site: Path) -> None:
    page = (site / "json.html").read_text(encoding="utf-8")

    assert "<title>Python: package json</title>" in page
    assert 'name="-dumps"' in page
    assert 'href="json.decoder.html"' in page


def test_pages_nest(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")

    assert "json.html" in index
    assert "json.decoder.html" not in index


def test_server_serves_the_site_and_answers_404_for_broken_links(site: Path, links: tuple[set[str], set[str]]) -> None:
    with serve_folder(site) as url:
        with urlopen(url) as response:
            index = response.read()
        with pytest.raises(HTTPError) as caught:
            urlopen(url + min(links[1]))
        caught.value.close()

    assert index == (site / "index.html").read_bytes()
    assert caught.value.code == 404


def test_reachable_pages_follows_links_within_the_site_only(tmp_path: Path) -> None:
    pages = {
        "index.html": '<a href="a.html#top">a</a> <a href="http://elsewhere/b.html">b</a> <a href=".">index</a>',
        "a.html": '<a href="missing.html">gone</a> <a href="file:///etc/hosts">file</a> <a name="top">here</a>',
        "b.html": "nobody links here",
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(text)

    assert reachable_pages(tmp_path) == ({"", "a.html"}, {"missing.html"})
