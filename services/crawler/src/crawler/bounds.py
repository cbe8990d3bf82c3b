"""Keeps HTML within what a parser does in bounded time and memory.

A parser that follows the standard works on each tag in proportion to how deep it stands and how many attributes it has,
and repeats the open formatting elements in every paragraph: 10 MB made for it take hours or all memory. So a page that
might be such a trap is looked at as source first. Where the standard would end an element, this may think it open, but
never the other way round.
"""

import re
from collections import Counter

import re2  # type: ignore[import-untyped]  # google-re2 ships no types

_FEW_TAGS = 20_000  # can't do harm by depth alone: half a second
_MAX_TAGS = 300_000  # a real page of 10 MB has fewer
_MAX_DEPTH = 512  # as in Chromium
_MAX_REPEATED = 400_000  # formatting elements, if each tag repeats the open ones
_MAX_ATTRIBUTES = 200
_MAX_UNCLOSED = 8  # elements that the end of another one ends
_LONG_TAG = 600  # characters; a shorter one can't have too many attributes

VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr")
)
# Closed or not, these don't pile up: the next of its kind, or its table, ends it.
_NOT_NESTING = VOID.union(("a", "p", "option", "td", "th", "tr", "tbody", "thead", "tfoot", "colgroup"))
# An item ends an open item of its list, but not if an item of the other kind of list stands between them.
_ITEMS = {"li": "list", "dt": "definitions", "dd": "definitions"}
_FORMATTING = frozenset(("b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"))
_INLINE = _FORMATTING.union(
    ("abbr", "acronym", "cite", "data", "del", "dfn", "ins", "kbd", "label", "mark", "q", "samp", "span", "sub"),
    ("sup", "time", "var"),
)
_FOREIGN_ROOTS = frozenset(("svg", "math"))
_FOREIGN = _FOREIGN_ROOTS.union(
    ("g", "defs", "symbol", "marker", "pattern", "mask", "clippath", "lineargradient", "radialgradient", "filter")
)
_KEPT_IN_FLAT = frozenset(("a", "area", "base", "title", "script"))  # of scripts, only JSON-LD is left by then

# What holds no tags, whatever it looks like; and how a "<" in it is written so that it begins none, and means the same.
_RAW = "script|style|title|textarea|xmp|iframe|noembed|noframes"
_NO_BRACKET = {"script": r"\u003c", "title": "&lt;", "textarea": "&lt;"}
_JSON_LD = "application/ld+json"

_SPACE = r"[ \t\n\f\r]"
_VALUE = r"\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z)|[^ \t\n\f\r>]*+"
_ATTRIBUTE = re.compile(rf"[^ \t\n\f\r/>][^ \t\n\f\r/>=]*+(?:{_SPACE}*+={_SPACE}*+(?:{_VALUE}))?+")
_COMMENT = r"<!--(?:-?>|.*?(?:--!?>|\Z))"
_ATTRIBUTES = rf"(?:[ \t\n\f\r/]++|{_ATTRIBUTE.pattern})*+"
_END_OF_NAME = r"(?=[ \t\n\f\r/>])"
_CONTENT_OF_RAW = rf">(?P<text>.*?)(?:</(?P=raw){_END_OF_NAME}[^>]*+(?:>|\Z)|\Z)"
_TOKEN = re.compile(
    rf"{_COMMENT}|<(?=[stxin])(?P<raw>{_RAW}){_END_OF_NAME}(?P<attributes>{_ATTRIBUTES})(?:{_CONTENT_OF_RAW}|\Z)"
    rf"|<(?P<tag>/?[a-zA-Z][^ \t\n\f\r/>]*+{_ATTRIBUTES})(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
# A bracket in a tag can hide what follows from a simpler look at the source.
_BRACKET_IN_TAG = rf"<[a-z][^<>]*(?:<|={_SPACE}*(?:\"[^\"<>]*[<>]|'[^'<>]*[<>]))"
_BRACKETS = re2.compile(rf"(?i){_BRACKET_IN_TAG}")
_ODD_TAG = re2.compile(rf"(?i)<[a-z][^<>]{{{_LONG_TAG}}}|{_BRACKET_IN_TAG}")
_STYLED_FORMATTING = rf"<(?:{'|'.join(sorted(_FORMATTING))})[ \t\n\f\r/]"
_STYLED_FORMATTING_TAGS = re.compile((_STYLED_FORMATTING + "[^>]*+").encode())  # in lower-case bytes: twice as fast
_FEW_FORMATTING = 20  # different ones: can't do harm on a page of few tags
_MUCH_FORMATTING = re2.compile(rf"(?is:(?:{_STYLED_FORMATTING}.*?){{{_FEW_FORMATTING}}})")
_SAME_OPEN = 3  # of formatting elements with the same attributes, no more are repeated
# The following are for source whose tags hold no brackets.
_LONG = re.compile(rf"<[a-zA-Z][^ \t\n\f\r/<>]*+([^<>]{{{_LONG_TAG},}})")
_NO_TAGS_IN_HERE = re.compile(
    rf"{_COMMENT}|<(?P<raw>{_RAW}){_END_OF_NAME}(?P<attributes>[^<>]*+)(?:{_CONTENT_OF_RAW}|(?=<)|\Z)"
    rf"|</?plaintext{_END_OF_NAME}[^<>]*+>?|<(?:[!?]|/[^a-zA-Z])[^>]*+(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_TAG = re.compile(r"<(/?)([a-zA-Z][^ \t\n\f\r/<>]*+)([^<>]*+)>?")
# An element that holds text only, and is closed: what stands open is the same without it. In lower case.
_CLOSED_AT_ONCE = re.compile(r"<([a-z][^ \t\n\f\r/<>]*+)[^<>]*+>[^<]*+</\1[ \t\n\f\r]*+>")
_LEAVES = 2  # how often to take them away; more often costs more than it spares

# What grows when it is written as markdown: each line repeats the marks of the quotes and lists that it stands in, and
# each row of a table is as wide as the widest.
_MAX_INDENTATION = 20
_MAX_CELLS = 4_000_000
_MAX_COLSPAN = 1000
_MAX_ADDRESSES = 20_000_000  # characters, if each is relative to what all are relative to
_GROWING = re.compile(r"<(?:xmp|plaintext|blockquote|[uo]l|t[rdh])")
_INDENTING = re.compile(r"<!--.*?-->|<(/?)(?:blockquote|ul|ol)\b", re.DOTALL)
_COLSPAN = re.compile(r"colspan=\"(\d{1,6})")


def bounded(html: str) -> bytes:
    """Return `html` in UTF-8, perhaps without comments and scripts (but JSON-LD); a trap flat: text and links only."""
    tags = html.count("<")
    source = html.encode()
    is_large = tags > _FEW_TAGS or _may_repeat_too_much(source, tags)
    if not is_large and _ODD_TAG.search(source) is None:
        return source
    if _BRACKETS.search(source) is not None or _has_overlong_tag(html):
        html = _TOKEN.sub(_without_brackets, html)
    if is_large:
        html = "<".join(html.split("<", _MAX_TAGS + 1)[: _MAX_TAGS + 1])
        html = _NO_TAGS_IN_HERE.sub(_inert, html)
    is_trap = _has_overlong_tag(html) or (is_large and _piles_up(html))
    return (_TAG.sub(_flattened, html) if is_trap else html).encode()


def expands(html: str, base: str) -> bool:
    """Whether HTML, as the parser writes it, relative to `base`, could become markdown of many times its size."""
    if (html.count("href=") + html.count("src=")) * len(base) > _MAX_ADDRESSES:
        return True
    found = Counter(_GROWING.findall(html))
    if found["<xmp"] or found["<plaintext"]:
        return True  # their raw text could hide tags from a look at the source
    rows, cells = found["<tr"], found["<td"] + found["<th"] + _MAX_COLSPAN * html.count("colspan")
    is_nested = found["<blockquote"] + found["<ul"] + found["<ol"] > _MAX_INDENTATION
    return (is_nested and _indents_too_far(html)) or (rows * cells > _MAX_CELLS and _is_too_wide(html, rows))


def _indents_too_far(html: str) -> bool:
    depth = 0
    for tag in _INDENTING.finditer(html):
        if tag[1] is not None:
            depth += -1 if tag[1] else 1
            if depth > _MAX_INDENTATION:
                return True
    return False


def _is_too_wide(html: str, rows: int) -> bool:
    return rows * max(map(_cells, html.split("<tr")[1:]), default=0) > _MAX_CELLS


def _cells(row: str) -> int:
    spans = (min(int(span), _MAX_COLSPAN) for span in _COLSPAN.findall(row)) if "colspan" in row else ()
    return row.count("<td") + row.count("<th") + sum(spans)


def _may_repeat_too_much(source: bytes, tags: int) -> bool:
    if tags * _SAME_OPEN * tags <= _MAX_REPEATED or _MUCH_FORMATTING.search(source) is None:
        return False
    return tags * _SAME_OPEN * len(set(_STYLED_FORMATTING_TAGS.findall(source.lower()))) > _MAX_REPEATED


def _without_brackets(token: re.Match[str]) -> str:
    """Escape the brackets inside a tag, which changes no attribute's value; drop comments and scripts."""
    tag = token["tag"]
    return _inert(token) if tag is None else f"<{tag.replace('<', '&lt;').replace('>', '&gt;')}>"


def _inert(token: re.Match[str]) -> str:
    """An element that holds no tags such that it could hold none in SVG either; drop scripts, but not JSON-LD."""
    name, attributes = (token["raw"] or "").lower(), token["attributes"]
    if not name or name == "style" or (name == "script" and _JSON_LD not in attributes.lower()):
        return " "
    text = (token["text"] or "").replace("<", _NO_BRACKET.get(name, "< "))
    return f"<{name}{attributes.replace('<', '&lt;').replace('>', '&gt;')}>{text}</{name}>"


def _has_overlong_tag(html: str) -> bool:
    return any(_has_too_many(attributes) for attributes in _LONG.findall(html))


def _has_too_many(attributes: str) -> bool:
    return sum(1 for _ in _ATTRIBUTE.finditer(attributes)) > _MAX_ATTRIBUTES


def _flattened(tag: re.Match[str]) -> str:
    is_kept = tag[2].lower() in _KEPT_IN_FLAT and (len(tag[3]) <= _LONG_TAG or not _has_too_many(tag[3]))
    return tag[0] if is_kept else " "


def _piles_up(html: str) -> bool:
    """Whether elements nest too deep, or too many formatting elements are open at once."""
    max_formatting = max(2, _MAX_REPEATED // (html.count("<") + 1))  # of all tags: each repeats what stands open
    elements = _OpenElements()
    html = html.lower()
    for _ in range(_LEAVES):
        html = _CLOSED_AT_ONCE.sub("", html)
    for closing, name, attributes in _TAG.findall(html):
        if closing:
            elements.close(name)
        else:
            elements.open(name, is_closed=attributes.endswith("/"))
        if len(elements.names) > _MAX_DEPTH or elements.formatting > max_formatting:
            return True
    return False


class _OpenElements:
    """The open elements, as far as the source tells without the rules of the standard: rather too many than too few."""

    def __init__(self) -> None:
        self.names: list[str] = [""]
        self.items: list[str] = [""]  # what kind of item was opened last in each
        self.formatting = 0
        self.foreign = 0

    def open(self, name: str, *, is_closed: bool) -> None:
        if is_closed and self.names[-1] in _FOREIGN:
            return
        if not self.foreign:  # inside SVG and MathML everything nests
            if name in _NOT_NESTING:
                return
            kind = _ITEMS.get(name)
            if kind and self.items[-1] in ("", kind):
                self.items[-1] = kind
                return
        self.names.append(name)
        self.items.append("")
        self.formatting += name in _FORMATTING
        self.foreign += name in _FOREIGN_ROOTS

    def close(self, name: str) -> None:
        """End the innermost element of that name, if no more than some inline elements stand open in it."""
        index = len(self.names) - 1
        if (
            index and self.names[index] == name not in _FORMATTING and not self.foreign
        ):  # as it should be, and mostly is
            del self.names[index], self.items[index]
            return
        last = max(1, index - _MAX_UNCLOSED)
        while index > last and self.names[index] != name and self.names[index] in _INLINE:
            index -= 1
        if self.names[index] != name:
            return
        self.formatting -= name in _FORMATTING  # those that ended with it are still repeated
        self.foreign -= sum(ended in _FOREIGN_ROOTS for ended in self.names[index:])
        del self.names[index:], self.items[index:]
