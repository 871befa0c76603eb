"""The pages keep up with the package: all public names are in the reference, and code runs."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import pyro_ebm as ebm

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
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
