"""The graph of a model as a picture in the page: sites in rows, each below what it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .html import box, escape, paragraph, table

_KINDS = {
    "latent": "latent",
    "discrete": "latent, summed out",
    "deterministic": "computed",
    "observed": "observed",
    "factor": "factor",
}
_FILL = {"observed": "#dfe5ea", "factor": "#fbe9dc", "deterministic": "#ffffff"}
_WIDTH, _HEIGHT, _APART, _BELOW = 150, 54, 24, 56
# A wider or higher graph is told by the table alone.
_MOST = 60

Graph = Mapping[str, Mapping[str, Any]]


def model_graph(graph: Graph) -> str:
    """The picture and the table of a model's sites."""
    rows = [
        (
            name,
            _KINDS.get(str(site["kind"]), str(site["kind"])),
            str(site["distribution"]),
            " × ".join(map(str, site["shape"])) or "one number",
            ", ".join(site["plates"]) or "none",
            ", ".join(site["parents"]) or "none",
        )
        for name, site in graph.items()
    ]
    columns = ("site", "kind", "distribution", "shape", "plates", "depends on")
    listed = table("Sites of the model", columns, rows, words=True)
    if len(graph) > _MOST:
        return paragraph(f"The model has {len(graph)} sites, too many to draw.") + listed
    return box("Graph of the model", _drawing(graph)) + listed


def _drawing(graph: Graph) -> str:
    places, width, height = _places(graph)
    lines = "".join(
        _line(places[parent], places[name])
        for name, site in graph.items()
        for parent in site["parents"]
        if parent in places
    )
    nodes = "".join(_node(name, site, *places[name]) for name, site in graph.items())
    told = ", ".join(graph)
    return (
        f'<svg role="img" aria-label="Graph of the model\'s sites: {escape(told)}. The table below '
        f'says the same." width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#59636b"/></marker></defs>'
        f"{lines}{nodes}</svg>"
    )


def _places(graph: Graph) -> tuple[dict[str, tuple[float, float]], int, int]:
    """The middle of every site, and the size of the picture."""
    ranks: dict[str, int] = {}
    # A model meets parents before their children.
    for name, site in graph.items():
        above = [ranks[parent] for parent in site["parents"] if parent in ranks]
        ranks[name] = 1 + max(above, default=-1)
    rows: dict[int, list[str]] = {}
    for name, rank in ranks.items():
        rows.setdefault(rank, []).append(name)
    most = max(len(row) for row in rows.values())
    width = most * _WIDTH + (most + 1) * _APART
    height = len(rows) * _HEIGHT + (len(rows) - 1) * _BELOW + 2 * _APART
    places = {}
    for rank, row in rows.items():
        left = (width - len(row) * _WIDTH - (len(row) - 1) * _APART) / 2 + _WIDTH / 2
        for i, name in enumerate(row):
            y = _APART + _HEIGHT / 2 + rank * (_HEIGHT + _BELOW)
            places[name] = (left + i * (_WIDTH + _APART), y)
    return places, width, height


def _line(above: tuple[float, float], below: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = above, below
    y1, y2 = y1 + _HEIGHT / 2, y2 - _HEIGHT / 2
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f} C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} '
        f'{x2:.0f} {y2:.0f}" fill="none" stroke="#59636b" marker-end="url(#arrow)"/>'
    )


def _node(name: str, site: Mapping[str, Any], x: float, y: float) -> str:
    fill = _FILL.get(site["kind"], "#e3eef6")
    radius = 4 if site["kind"] in ("factor", "deterministic") else _HEIGHT / 2
    dashes = ' stroke-dasharray="4 3"' if site["kind"] == "deterministic" else ""
    below = ", ".join([site["distribution"], *(f"× {plate}" for plate in site["plates"])])
    if site["kind"] == "deterministic":
        below = ", ".join(["computed", *(f"× {plate}" for plate in site["plates"])])
    return (
        f'<rect x="{x - _WIDTH / 2:.0f}" y="{y - _HEIGHT / 2:.0f}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="{radius:.0f}" fill="{fill}" stroke="#1d2226"{dashes}/>'
        f'<text x="{x:.0f}" y="{y - 3:.0f}" text-anchor="middle" font-weight="600" '
        f'fill="#1d2226">{escape(_short(name))}</text>'
        f'<text x="{x:.0f}" y="{y + 15:.0f}" text-anchor="middle" font-size="11" '
        f'fill="#59636b">{escape(_short(below, 24))}</text>'
    )


def _short(text: str, most: int = 18) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
