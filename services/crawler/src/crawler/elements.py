"""The elements of a page that tell something, found in one walk through its tree: walking is what costs. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from selectolax.lexbor import LexborHTMLParser, LexborNode

Attributes = Mapping[str, str | None]

_NOT_CONTENT = frozenset((
    "script", "style", "noscript", "noembed", "noframes", "template", "svg", "iframe", "nav", "footer", "aside",
))  # fmt: skip
# Images (`src`, `srcset`), scripts and style sheets are no documents, so they are no links either.
_LINKING = {"a": "href", "area": "href", "frame": "src", "iframe": "src"}
_MAIN = "main,[role=main]"
# How generators of documentation call the language of a code block: in a class of its own or around it, or in its data.
_LANGUAGE = re.compile(
    r"(?:^|\s)(?:language-|lang-|highlight-(?:source-)?|brush:\s*|sourceCode\s+)(?!(?:default|none|text)\b)([\w+#-]+)"
)
# What generators of documentation put beside a heading, so that it can be linked to.
_PERMALINKS = frozenset(("¶", "#", "§", "🔗", "\u200b"))
_WITHIN = 4  # elements: the <code> in the block, the block, and two around it
_SOUGHT = ",".join(
    (_MAIN, *sorted(_NOT_CONTENT), "pre,title,base[href],link[rel][href],meta[content],a[href],area[href],frame[src]")
)


@dataclass(slots=True)
class Elements:
    """What was found, each kind in document order. `metas` are those with content, with their attributes.

    `titles` are those of drawings, too. That of the page may be in the body, since a <noscript> can end the head.
    """

    page: LexborHTMLParser
    linking: list[Attributes] = field(default_factory=list)
    bases: list[Attributes] = field(default_factory=list)
    relations: list[Attributes] = field(default_factory=list)
    metas: list[tuple[LexborNode, Attributes]] = field(default_factory=list)
    json_ld: list[LexborNode] = field(default_factory=list)
    titles: list[LexborNode] = field(default_factory=list)
    not_content: list[LexborNode] = field(default_factory=list)
    code_blocks: list[LexborNode] = field(default_factory=list)
    has_main: bool = False

    @classmethod
    def of(cls, page: LexborHTMLParser) -> Self:
        """Look for them."""
        found = cls(page)
        # With :is(), an element that several of these match is found once.
        for node in page.css(f":is({_SOUGHT})"):
            tag, attributes = node.tag, node.attributes
            if tag in _LINKING and (address := attributes.get(_LINKING[tag])) is not None:
                found.linking.append(attributes)
                if address.startswith("#") and _is_permalink(node):
                    found.not_content.append(node)
            elif tag == "meta":
                found.metas.append((node, attributes))
            elif tag == "link":
                found.relations.append(attributes)
            elif tag == "base":
                found.bases.append(attributes)
            elif tag == "script" and (attributes.get("type") or "").lower() == "application/ld+json":
                found.json_ld.append(node)
            elif tag == "title":
                found.titles.append(node)
            elif tag == "pre":
                found.code_blocks.append(node)
            if tag in _NOT_CONTENT:
                found.not_content.append(node)
            elif tag == "main" or attributes.get("role") == "main":
                found.has_main = True
        return found

    def name_languages(self) -> None:
        """Write the language of each code block where a converter looks for it."""
        named: dict[int, str] = {}
        for block in self.code_blocks:
            _name_language(block, named)

    def main(self) -> LexborNode | None:
        """Drop what is no content; return what is left of the element that is marked as the main content, if one is."""
        for node in (*self.not_content, *self.titles):
            node.decompose()
        return self.page.css_first(_MAIN) if self.has_main else None


def _is_permalink(link: LexborNode) -> bool:
    if text := link.text().strip():
        return text in _PERMALINKS
    return (child := link.first_child) is None or child.tag == "svg"


def _name_language(block: LexborNode, named: dict[int, str]) -> None:
    """`named` remembers what elements name: many blocks may stand in one with very long attributes."""
    node = block.css_first("code") or block
    for _ in range(_WITHIN):
        if node.mem_id not in named:
            named[node.mem_id] = _language(node.attributes)
        if language := named[node.mem_id]:
            block.attrs["class"] = f"language-{language}"
            return
        if node.parent is None:
            return
        node = node.parent


def _language(attributes: Attributes) -> str:
    found = _LANGUAGE.search(f"{attributes.get('class') or ''} language-{attributes.get('data-lang') or ''}")
    return found[1] if found else ""
