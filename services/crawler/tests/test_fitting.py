"""Stored documents cut off to fit into a message."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from crawler.fitting import fitting
from tallyho_contracts.documents import StoredDocument

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
MOST = 100_000


def document(content: str, links: tuple[str, ...] = (), html: str | None = None) -> StoredDocument:
    return StoredDocument(
        document_id=UUID(int=1),
        url="https://example.com/",
        content=content,
        links=links,
        html=html,
        content_hash="0",
        status_code=200,
        content_type="text/html",
        created_at=NOON,
        saved_at=NOON,
    )


@pytest.mark.parametrize("content", ["", "short", "x" * 60_000, "\n" * 40_000, "\U0001f98a" * 20_000])
def test_document_that_fits_stays_as_it_is(content: str) -> None:
    assert fitting(document(content), MOST) == document(content)


@pytest.mark.parametrize("character", ["x", "\n", "\x01", "\u00e9", "\U0001f98a"])
def test_content_is_cut_where_the_message_is_full(character: str) -> None:
    whole = document("begin" + character * 500_000)

    cut = fitting(whole, MOST)

    assert cut.truncated
    assert MOST * 0.99 < len(cut.model_dump_json().encode()) <= MOST
    assert whole.content.startswith(cut.content)


def test_uneven_content_is_cut_to_less_but_never_to_too_much() -> None:
    for content in ("\x01" * 50_000 + "x" * 500_000, "x" * 50_000 + "\x01" * 500_000):
        cut = fitting(document(content), MOST)

        assert cut.truncated
        assert MOST / 10 < len(cut.model_dump_json().encode()) <= MOST
        assert content.startswith(cut.content)


def test_links_leave_room_for_the_content() -> None:
    links = tuple(f"https://example.com/{number:0500}" for number in range(1000))

    cut = fitting(document("x" * 30_000, links), MOST)

    assert cut.truncated
    assert cut.content == "x" * 30_000
    assert cut.links == links[: len(cut.links)]
    assert 0 < len(cut.links) < 50


@pytest.mark.parametrize("character", ["x", "é", "中", "\U0001f98a"])
def test_html_and_links_are_measured_in_bytes(character: str) -> None:
    links = tuple(f"https://example.com/{character * 50}{number}" for number in range(2000))

    cut = fitting(document("x" * 500_000, links, html=character * 500_000), MOST)

    assert cut.truncated
    assert cut.html
    assert MOST * 0.99 < len(cut.model_dump_json().encode()) <= MOST
