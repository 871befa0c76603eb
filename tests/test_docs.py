"""The pages keep up with the package: all public names are in the reference, and code runs."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import pyro_ebm as ebm

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TABLED = [*PAGES, *sorted(DOCS.parent.glob("*.md"))]
PUBLIC = set(ebm.__all__)


def test_every_public_name_is_in_the_reference_once():
    listed = re.findall(r"^ {3}pyro_ebm\.(\w+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    assert Counter(listed) == Counter(ebm.__all__)


def test_what_is_imported_to_be_public_is_public():
    tree = ast.parse(Path(ebm.__file__).read_text())
    names = [
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert Counter(names) == Counter(ebm.__all__)


def lone_rows(text: str) -> list[str]:
    """Rows of tables that no header with its line of dashes stands above."""
    found, head, inside = [], "", False
    for line in text.splitlines():
        row = line.startswith("|")
        ruled = row and re.fullmatch(r"[|\s:-]+", line) is not None and "-" in line
        if ruled and head:
            inside, head = True, ""
        elif row and not inside:
            found += [head] if head else []
            head = line
        elif not row:
            found += [head] if head else []
            head, inside = "", False
    return found + ([head] if head else [])


@pytest.mark.parametrize("page", TABLED, ids=lambda page: page.stem)
def test_every_row_stands_in_a_table(page: Path):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert lone_rows(text) == []


def test_a_row_without_a_header_is_seen():
    table = "| a | b |\n|---|:-:|\n| 1 | 2 |\n"
    assert lone_rows(table + "\ntext\n\n" + table) == []
    assert lone_rows(table + "\n| 3 | 4 |\n") == ["| 3 | 4 |"]
    assert lone_rows("| 3 | 4 |\n| 5 | 6 |") == ["| 3 | 4 |", "| 5 | 6 |"]


def test_every_public_name_says_what_it_is():
    assert not [
        name for name in PUBLIC - {"spin"} if not (getattr(ebm, name).__doc__ or "").strip()
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path):
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)
