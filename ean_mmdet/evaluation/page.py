"""A page of HTML that needs no other file and no network, from ``page.html.j2`` and ``page.css``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

# What a part's content is, by its kind.
KINDS = {
    'table': 'a Table',
    'picture': 'its URL and caption',
    'pictures': 'URLs and captions',
    'small pictures': 'likewise',
    'folded': 'a title and a text that opens at a click',
    'heading': 'a text',
    'note': 'a text',
    'text': 'a text',
}


@dataclass
class Section:
    """A section of a page: its heading, and its parts, a kind (of :data:`KINDS`) and the content each."""

    heading: str
    parts: list[tuple[str, Any]] = field(default_factory=list)

    def add(self, kind: str, content: Any) -> None:
        """Add a part."""
        if kind not in KINDS:
            raise ValueError(f'kind must be one of {", ".join(KINDS)}, got {kind!r}')
        self.parts.append((kind, content))


def page(title: str, sections: Sequence[Section]) -> str:
    """The whole page."""
    loader = PackageLoader('ean_mmdet', 'evaluation')
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template('page.html.j2').render(title=title, sections=sections)
