"""The page: HTML that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 0 auto; padding: 0 16px 48px; }
h1 { font-size: 1.6em; } h2 { margin-top: 2em; border-bottom: 1px solid #ddd; } h3 { margin-top: 1.5em; }
img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5em 0; }
td, th { padding: .25em .8em; border-bottom: 1px solid #e4e4e4; text-align: left; white-space: nowrap; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; }
pre { overflow-x: auto; background: #f6f6f6; padding: 8px 12px; font-size: 13px; }
nav a { margin-right: 1em; } .note { color: #666; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 16px; }
figure { margin: 0; } figcaption { color: #666; font-size: 13px; overflow-wrap: anywhere; }
"""


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers to the right, of three digits behind the point."""

    def cell(value: object, kind: str = 'td') -> str:
        number = isinstance(value, (int, float))
        text = f'{value:.3f}' if isinstance(value, float) else f'{value:,}' if number else str(value)
        return f'<{kind}{" class=figure" if number else ""}>{escape(text)}</{kind}>'

    figures = [bool(rows) and isinstance(rows[0][column], (int, float)) for column in range(len(header))]
    head = ''.join(
        f'<th{" class=figure" if figure else ""}>{escape(name)}</th>' for name, figure in zip(header, figures)
    )
    body = ''.join(f'<tr>{"".join(map(cell, row))}</tr>' for row in rows)
    return f'<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def picture(url: str, caption: str) -> str:
    """A picture with what it shows."""
    return f'<figure><img src="{url}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def pictures(entries: Sequence[tuple[str, str]]) -> str:
    """Pictures beside each other, as many as there is room for."""
    return f'<div class=pictures>{"".join(picture(*entry) for entry in entries)}</div>'


def code(text: str) -> str:
    """Text as it is."""
    return f'<pre>{escape(text)}</pre>'


def folded(title: str, content: str) -> str:
    """Content that opens when its title is clicked."""
    return f'<details><summary>{escape(title)}</summary>{content}</details>'


def note(text: str) -> str:
    """A remark."""
    return f'<p class=note>{escape(text)}</p>'


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page of sections, (heading, HTML) each."""
    links = ''.join(f'<a href="#s{number}">{escape(heading)}</a>' for number, (heading, _) in enumerate(sections))
    parts = ''.join(
        f'<section id="s{number}"><h2>{escape(heading)}</h2>{content}</section>'
        for number, (heading, content) in enumerate(sections)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head>'
        f'<body><h1>{escape(title)}</h1><nav>{links}</nav>{parts}</body></html>\n'
    )
