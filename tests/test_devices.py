"""Random numbers are drawn where their generator is, whatever torch's default device."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "pyro_ebm"
DRAWING = {f"torch.{name}" for name in ("rand", "randn", "randint", "randperm")}


def test_draws_of_a_generator_say_their_device():
    silent = [
        f"{path.name}: {ast.unparse(node)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in DRAWING
        # None is an unpacked `**kind`, which has both.
        if "generator" in (given := {keyword.arg for keyword in node.keywords})
        and not given & {"device", None}
    ]
    assert silent == []
