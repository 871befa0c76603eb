"""The frame of a page, its style, and the few pieces that it is put together from.

Everything is in the one file: no script, no font and no picture is fetched from anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as escape

_STYLE = """
:root { --ink: #1d2226; --soft: #59636b; --line: #d9dee2; --paper: #ffffff; --tint: #f4f6f7;
  --blue: #1f5f8b; --good: #1e6b45; --bad: #a3391c; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 Georgia, "Iowan Old Style", "Times New Roman", serif; }
header, main, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.2; margin: 0 0 .4rem;
  font-weight: normal; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; font-weight: normal; margin: 3rem 0 .75rem;
  padding-bottom: .35rem; border-bottom: 1px solid var(--line); }
p, ul, figure, dl { margin: 0 0 1rem; }
p, li { max-width: 42rem; overflow-wrap: anywhere; }
.soft, figcaption, footer, dt { color: var(--soft); }
.small, figcaption, footer, table, dl, nav, code { font-size: .9rem; }
figcaption, footer, table, dl, nav, code, .number
  { font-family: system-ui, -apple-system, "Segoe UI", sans-serif; }
nav { margin-top: 1rem; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; }
a { color: var(--blue); }
a:focus-visible, .box:focus-visible, .scroll:focus-visible
  { outline: 3px solid var(--blue); outline-offset: 2px; }
.verdict { border-left: .3rem solid var(--bad); background: var(--tint);
  padding: 1rem 1.25rem; margin: 0 0 1rem; }
.verdict.good { border-color: var(--good); }
.verdict > :last-child { margin-bottom: 0; }
.verdict strong { color: var(--bad); font-weight: 600; }
.verdict.good strong { color: var(--good); }
.number { font-size: clamp(1.5rem, 6vw, 2.1rem); margin: 0 0 .25rem; }
.box { overflow-x: auto; margin: 0 0 1rem; border: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .75rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
thead th { background: var(--tint); font-weight: 600; border-bottom: 1px solid var(--line); }
tbody th { font-weight: normal; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .2rem 1.5rem; }
dd { margin: 0; overflow-wrap: anywhere; }
figure img { display: block; max-width: 100%; height: auto; }
figure .scroll { overflow-x: auto; }
.box svg { display: block; margin: 0 auto; }
footer { margin-top: 3.5rem; padding-top: 1rem; padding-bottom: 2.5rem; }
@media (max-width: 34rem) {
  header { padding-top: 1.75rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
  figure img { max-width: none; width: 34rem; }
}
@media print { nav { display: none; } .box { overflow: visible; border: 0; } }
"""

Section = tuple[str, str, str]


def page(title: str, about: str, sections: Sequence[Section], footer: str) -> str:
    """A whole page.

    :param about: a line below the title, as text.
    :param sections: identifier, heading and contents of each, the last in HTML.
    """
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections)
    parts = "".join(
        f'<section id="{name}" aria-labelledby="{name}-heading">'
        f'<h2 id="{name}-heading">{escape(heading)}</h2>{contents}</section>\n'
        for name, heading, contents in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Without one a browser asks for /favicon.ico.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(title)}</h1><p class="soft">{escape(about)}</p>'
        f'<nav aria-label="Sections">{links}</nav></header>\n<main>\n{parts}</main>\n'
        f"<footer>{escape(footer)}</footer>\n</body>\n</html>\n"
    )


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of text."""
    named = f' class="{kind}"' if kind else ""
    return f"<p{named}>{escape(text)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A list of lines of text; nothing for none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def table(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False
) -> str:
    """A table of text in a box that scrolls by itself; the first column names the rows.

    :param name: what it is a table of, for who cannot see it.
    :param words: its columns are words rather than numbers.
    """
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    kind = ' class="words"' if words else ""
    return box(name, f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def box(name: str, contents: str, *, kind: str = "box") -> str:
    """A box that scrolls sideways, reached by the keyboard too."""
    label = f'role="region" aria-label="{escape(name)}" tabindex="0"'
    return f'<div class="{kind}" {label}>{contents}</div>'


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and what they stand for."""
    return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in pairs) + "</dl>"
