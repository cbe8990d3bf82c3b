"""Stored documents made to fit into a message. Pure."""

from pydantic_core import to_json
from tallyho_contracts.documents import StoredDocument

# RabbitMQ takes 16 MiB a message; what surrounds a document needs little.
MOST_BYTES = 12 * 1024 * 1024
# Any character takes at most six bytes in JSON: what is this short fits without being measured.
_BYTES_PER_CHARACTER = 6


def size_of(document: StoredDocument) -> int:
    """About how many bytes it takes: exact for ASCII without escapes."""
    return len(document.content) + len(document.html or "") + sum(map(len, document.links))


def fitting(document: StoredDocument, most: int = MOST_BYTES) -> StoredDocument:
    """The document, cut off where it would take more than `most` bytes of JSON: links at a quarter, HTML at a half."""
    if size_of(document) * _BYTES_PER_CHARACTER < most // 2:
        return document
    links = _first_links(document.links, most // 4)
    html = None if document.html is None else _beginning(document.html, most // 2)
    rest = document.model_copy(update={"content": "", "links": links, "html": html, "truncated": True})
    content = _beginning(document.content, most - len(rest.model_dump_json().encode()))
    if (content, links, html) == (document.content, document.links, document.html):
        return document
    return rest.model_copy(update={"content": content})


def _first_links(links: tuple[str, ...], most: int) -> tuple[str, ...]:
    taken = 0
    for number, link in enumerate(links):
        taken += len(to_json(link)) + 1
        if taken > most:
            return links[:number]
    return links


def _beginning(text: str, most: int) -> str:
    while (size := len(to_json(text))) > most:
        text = text[: len(text) * most // size]  # shorter each time, and mostly right at once
    return text
