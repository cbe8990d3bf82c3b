"""The elements of a page that tell something, found in one walk through its tree: walking is what costs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from selectolax.lexbor import LexborHTMLParser, LexborNode

Attributes = Mapping[str, str | None]

_NOT_CONTENT = (
    "script", "style", "noscript", "noembed", "noframes", "template", "svg", "iframe", "nav", "footer", "aside",
)  # fmt: skip
# Images (`src`, `srcset`), scripts and style sheets are no documents, so they are no links either.
_LINKING = {"a": "href", "area": "href", "frame": "src", "iframe": "src"}
_MAIN = "main,[role=main]"
# With :is(), an element that several of these match is found once.
_SOUGHT = (
    f":is(a[href],area[href],frame[src],base[href],link[rel][href],meta[content],{_MAIN},{','.join(_NOT_CONTENT)})"
)


@dataclass(slots=True)
class Elements:
    """What was found, each kind in document order. `metas` are those with content, with their attributes."""

    page: LexborHTMLParser
    linking: list[Attributes] = field(default_factory=list)
    bases: list[Attributes] = field(default_factory=list)
    relations: list[Attributes] = field(default_factory=list)
    metas: list[tuple[LexborNode, Attributes]] = field(default_factory=list)
    json_ld: list[LexborNode] = field(default_factory=list)
    not_content: list[LexborNode] = field(default_factory=list)
    has_main: bool = False

    @classmethod
    def of(cls, page: LexborHTMLParser) -> Self:
        """Look for them."""
        found = cls(page)
        for node in page.css(_SOUGHT):
            found._add(node)
        return found

    def main(self) -> LexborNode | None:
        """Drop what is no content; return what is left of the element that is marked as the main content, if one is."""
        for node in self.not_content:
            node.decompose()
        return self.page.css_first(_MAIN) if self.has_main else None

    def _add(self, node: LexborNode) -> None:
        tag, attributes = node.tag, node.attributes
        if tag in _LINKING and _LINKING[tag] in attributes:
            self.linking.append(attributes)
        elif tag == "meta":
            self.metas.append((node, attributes))
        elif tag == "link":
            self.relations.append(attributes)
        elif tag == "base":
            self.bases.append(attributes)
        elif tag == "script" and (attributes.get("type") or "").lower() == "application/ld+json":
            self.json_ld.append(node)
        if tag in _NOT_CONTENT:
            self.not_content.append(node)
        elif tag == "main" or attributes.get("role") == "main":
            self.has_main = True
