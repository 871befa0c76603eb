"""Tables of results as markdown, and all numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Table(NamedTuple):
    """``rows`` hold a text for every column; ``verdict`` is a sentence, ``numbers`` go to JSON."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdict: str
    numbers: Mapping[str, Any]


def number(value: float) -> str:
    """Three figures, thousands apart: 12,300 or 1.25."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:#.3g}".rstrip(".")


def markdown(tables: Sequence[Table], *, heading: str, remarks: Sequence[str]) -> str:
    """One section a table, with its verdict below; the remarks come first."""
    parts = [f"# {heading}", *remarks]
    for table in tables:
        lines = [table.columns, ["---"] * len(table.columns), *table.rows] if table.rows else []
        parts.append(f"## {table.title}")
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
        parts.append(table.verdict)
    return "\n\n".join(filter(None, parts)) + "\n"


def write(
    tables: Sequence[Table],
    path: Path,
    *,
    heading: str,
    remarks: Sequence[str],
    attributes: Mapping[str, Any],
) -> None:
    """Write the tables to ``path`` with ``.md``, and all numbers to ``path`` with ``.json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(tables, heading=heading, remarks=remarks)
    path.with_suffix(".md").write_text(text)
    numbers = {"attributes": attributes} | {table.title: table.numbers for table in tables}
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
