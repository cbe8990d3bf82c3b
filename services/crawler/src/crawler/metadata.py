"""What a page says about itself: description, language, author, dates, and what it tells social networks. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from selectolax.lexbor import LexborNode

from crawler.elements import Elements

MAX_ENTRIES = 50
MAX_KEY = 100
MAX_VALUE = 1_000
MAX_ELEMENTS = 500
MAX_JSON_LD = 100_000  # characters of one script
# The names under which pages tell the same thing, the best first. "json-ld:…" is schema.org's property.
_AUTHOR = ("author", "article:author", "dc.creator", "dcterms.creator", "parsely-author", "json-ld:author")
_PUBLISHED = (
    "article:published_time", "json-ld:datePublished", "datepublished", "date", "dc.date", "dcterms.created",
    "dcterms.issued", "dc.date.issued", "parsely-pub-date", "pubdate", "publish-date", "citation_publication_date",
)  # fmt: skip
_MODIFIED = ("article:modified_time", "og:updated_time", "json-ld:dateModified", "last-modified", "dcterms.modified")
_KEPT_NAMES = frozenset(("author", "keywords", "generator", "robots", "application-name", "theme", "publisher"))
_KEPT_PREFIXES = ("og:", "article:", "book:", "profile:", "twitter:", "dc.", "dcterms.", "citation_")
_PRAGMA = "http-equiv:"
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{1,8})*", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FURTHER_READING = ("@graph", "mainEntity")


@dataclass(frozen=True, slots=True)
class About:
    """What a page says about itself.

    `metadata` has at most 50 entries of 1,000 characters, keyed as the page has it; but `author`, `published_at` and
    `modified_at` are always spelled so, the dates as in ISO 8601. `language` is such as `en` or `pt-BR`.
    """

    description: str
    language: str | None
    metadata: dict[str, str]


def about(elements: Elements) -> About:
    """Collect what a page says about itself."""
    said: dict[str, str] = {}
    for _, attributes in elements.metas[:MAX_ELEMENTS]:
        _note(said, attributes)
    return About(
        description=said.get("description") or said.get("og:description") or said.get("twitter:description", ""),
        language=_language(elements, said),
        metadata=_metadata(said, _json_ld(elements.json_ld[:MAX_ELEMENTS])),
    )


def _note(said: dict[str, str], attributes: Mapping[str, str | None]) -> None:
    key = attributes.get("property") or attributes.get("name") or attributes.get("itemprop") or ""
    if not key and (pragma := attributes.get("http-equiv")):
        key = _PRAGMA + pragma
    key, value = key.strip().lower().replace("\0", ""), _line(attributes.get("content") or "")
    if key and value and len(key) <= MAX_KEY:
        said.setdefault(key, value)


def _language(elements: Elements, said: Mapping[str, str]) -> str | None:
    root = elements.page.root
    attributes = root.attributes if root else {}
    own, pragma = (attributes.get("lang"), attributes.get("xml:lang")), said.get(f"{_PRAGMA}content-language")
    declared = (*own, pragma, said.get("og:locale"))
    return next(filter(None, map(language_tag, filter(None, declared))), None)


def language_tag(text: str) -> str | None:
    """Return the language that `text` names, such as `en` or, for `pt_BR`, `pt-BR`; None for anything else."""
    match = _LANGUAGE.fullmatch(text.strip()[:35].replace("_", "-"))
    return match[0] if match else None


def _metadata(said: Mapping[str, str], json_ld: Mapping[str, str]) -> dict[str, str]:
    everything = {**json_ld, **said}
    found = {
        "author": _first(everything, _AUTHOR),
        "published_at": _first_date(everything, _PUBLISHED),
        "modified_at": _first_date(everything, _MODIFIED),
    }
    kept = {key: value for key, value in found.items() if value}
    for key, value in said.items():
        if len(kept) == MAX_ENTRIES:
            break
        if key in _KEPT_NAMES or key.startswith(_KEPT_PREFIXES):
            kept.setdefault(key, value)
    return kept


def _json_ld(scripts: Iterable[LexborNode]) -> dict[str, str]:
    """The author and the dates that a page tells search engines, by schema.org's names."""
    found: dict[str, str] = {}
    for script in scripts:
        for thing in _things(script.text()):
            for name in ("author", "datePublished", "dateModified"):
                if value := _name(thing.get(name)):
                    found.setdefault(f"json-ld:{name}", _line(value))
    return found


def _things(text: str) -> Iterator[dict[str, object]]:
    if len(text) > MAX_JSON_LD:
        return
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return
    things = read if isinstance(read, list) else [read]
    for thing in things[:20]:
        if isinstance(thing, dict):
            yield thing
            for name in _FURTHER_READING:
                inner = thing.get(name)
                inside = inner[:20] if isinstance(inner, list) else [inner]
                yield from (one for one in inside if isinstance(one, dict))


def _name(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(filter(None, map(_name, value[:10])))
    if isinstance(value, dict):
        value = value.get("name")
    return value if isinstance(value, str) else ""


def _first(said: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((said[name] for name in names if said.get(name)), "")


def _first_date(said: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first of these that is a date, or a date and time, in ISO 8601."""
    for name in names:
        value = said.get(name, "")
        if _DATE.match(value):
            try:
                when = datetime.fromisoformat(value)
                return value if len(value) == len("2024-01-02") else when.isoformat()
            except ValueError:
                continue
    return ""


def _line(text: str) -> str:
    """One line that PostgreSQL can store."""
    return " ".join(text[: 4 * MAX_VALUE].split())[:MAX_VALUE].replace("\0", "").encode(errors="replace").decode()
