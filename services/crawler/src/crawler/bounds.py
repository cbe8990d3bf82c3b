"""Keeps HTML within what a parser does in bounded time and memory.

A parser that follows the standard works on each tag in proportion to how deep it stands and how many attributes it has,
and repeats the open formatting elements in every paragraph: 10 MB made for it take hours or all memory.
"""

import re
from collections import Counter

import re2  # type: ignore[import-untyped]  # google-re2 ships no types

_FEW_TAGS = 10_000  # can't do harm by depth alone: 0.1 s
_MAX_TAGS = 300_000  # a real page of 10 MB has fewer
_MAX_DEPTH = 512  # as in Chromium
_MAX_FORMATTING = 40  # open at once; fewer on a page of many tags
_MAX_REPEATED = 500_000  # formatting elements, if each tag repeats the open ones
_MAX_ATTRIBUTES = 200
_LONG_TAG = 600  # characters; a shorter one can't have too many attributes

_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr")
)
# Closed or not, these don't pile up: the next of its kind, or its table, ends it.
_NOT_NESTING = _VOID.union(("a", "p", "option", "td", "th", "tr", "tbody", "thead", "tfoot", "colgroup"))
_LIST_ITEMS = frozenset(("li", "dt", "dd"))  # an <li> ends an open <li>, but not if a <dd> stands between them
_FORMATTING = frozenset(("b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"))
_KEPT_IN_FLAT = frozenset(("a", "area", "base", "title"))

_SPACE = r"[ \t\n\f\r]"
_VALUE = r"\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)|[^ \t\n\f\r>]*+"
_ATTRIBUTE = rf"[^ \t\n\f\r/>][^ \t\n\f\r/>=]*+(?:{_SPACE}*+={_SPACE}*+(?:{_VALUE}))?+"
_FIND_ATTRIBUTES = re.compile(_ATTRIBUTE)
_TAG = re.compile(rf"<(/?)([a-zA-Z][^ \t\n\f\r/>]*+)((?:[ \t\n\f\r/]++|{_ATTRIBUTE})*+)(?:>|\Z)")
_UNSEEN = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))|<svg\b(?:[^<>]*+/>|.*?(?:</svg\b[^>]*+>|\Z))"
    r"|<(script|style)\b.*?(?:</\1\b[^>]*+>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_STYLED_FORMATTING = rf"<(?:{'|'.join(sorted(_FORMATTING))})[ \t\n\f\r/]"
# One pass over the page: a long tag; a quoted bracket, which could hide one; many formatting elements that differ.
_SUSPECT = re2.compile(
    rf"(?i)<[a-z][^<>]{{{_LONG_TAG}}}"
    r"|=[ \t\n\f\r]*(?:\"[^\"<>]*[<>]|'[^'<>]*[<>])"
    rf"|(?s:(?:{_STYLED_FORMATTING}.*?){{{_MAX_FORMATTING}}})"
)

# What grows when it is written as markdown: each line repeats the marks of the quotes and lists that it stands in, and
# each row of a table is as wide as the widest.
_MAX_INDENTATION = 20
_MAX_CELLS = 4_000_000
_MAX_COLSPAN = 1000
_INDENTING = re.compile(r"<!--.*?-->|<(/?)(?:blockquote|ul|ol)\b", re.DOTALL)
_COLSPAN = re.compile(r"colspan=\"(\d{1,6})")


def bounded(html: str) -> str:
    """Return `html`; or without what is never seen; or, if it is a trap, flat: its text and its links only."""
    if not _may_be_trap(html):
        return html
    html = _UNSEEN.sub(" ", html)
    pieces = html.split("<", _MAX_TAGS + 1)
    if len(pieces) > _MAX_TAGS + 1:
        html = "<".join(pieces[:-1])
    return _TAG.sub(_flattened, html) if _is_trap(html) else html


def expands(html: str) -> bool:
    """Whether HTML, as the parser writes it, could become markdown of many times its size."""
    if "<xmp" in html or "<plaintext" in html:
        return True  # their raw text could hide tags from a look at the source
    return _indents_too_far(html) or _is_too_wide(html)


def _indents_too_far(html: str) -> bool:
    if sum(map(html.count, ("<blockquote", "<ul", "<ol"))) <= _MAX_INDENTATION:
        return False
    depth = 0
    for tag in _INDENTING.finditer(html):
        if tag[1] is not None:
            depth += -1 if tag[1] else 1
            if depth > _MAX_INDENTATION:
                return True
    return False


def _is_too_wide(html: str) -> bool:
    rows = html.count("<tr")
    if rows * (html.count("<t") + _MAX_COLSPAN * html.count("colspan")) <= _MAX_CELLS:
        return False
    return rows * max(map(_cells, html.split("<tr")[1:]), default=0) > _MAX_CELLS


def _cells(row: str) -> int:
    spans = (min(int(span), _MAX_COLSPAN) for span in _COLSPAN.findall(row)) if "colspan" in row else ()
    return row.count("<td") + row.count("<th") + sum(spans)


def _may_be_trap(html: str) -> bool:
    return html.count("<") > _FEW_TAGS or _SUSPECT.search(html.encode()) is not None


def _is_trap(html: str) -> bool:
    """Whether elements nest too deep or have too many attributes. Overestimates the depth of malformed HTML."""
    not_nesting = _VOID if "<math" in html.lower() else _NOT_NESTING  # inside MathML all of them nest
    max_formatting = min(_MAX_FORMATTING, max(2, _MAX_REPEATED // (html.count("<") + 1)))
    open_elements: Counter[str] = Counter()
    depth = formatting = 0
    for tag in _TAG.finditer(html):
        if tag.end() - tag.start() > _LONG_TAG and _attributes(tag) > _MAX_ATTRIBUTES:
            return True
        name = tag[2].lower()
        if name in not_nesting or (tag[1] and not open_elements[name]):
            continue
        step = -1 if tag[1] else 1
        open_elements[name] += step
        if name in _LIST_ITEMS:
            if min(open_elements["li"], open_elements["dt"] + open_elements["dd"]) > _MAX_DEPTH:
                return True
            continue
        depth += step
        formatting += step if name in _FORMATTING else 0
        if depth > _MAX_DEPTH or formatting > max_formatting:
            return True
    return False


def _attributes(tag: re.Match[str]) -> int:
    return sum(1 for _ in _FIND_ATTRIBUTES.finditer(tag[3]))


def _flattened(tag: re.Match[str]) -> str:
    return tag[0] if tag[2].lower() in _KEPT_IN_FLAT and _attributes(tag) <= _MAX_ATTRIBUTES else " "
