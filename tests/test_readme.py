"""The README's words are promises: its code runs, and it names one main and one test command."""

import re
from pathlib import Path
from typing import Any

import pyro_ebm as ebm

README = Path(__file__).parent.parent / "README.md"


def blocks(*languages: str) -> list[tuple[int, str]]:
    """Fenced blocks in one of the languages, each with the line its code starts on."""
    text = README.read_text()
    pattern = rf"^```({'|'.join(languages)})\n(.*?)^```$"
    return [
        (text.count("\n", 0, found.start(2)) + 1, found.group(2))
        for found in re.finditer(pattern, text, re.MULTILINE | re.DOTALL)
    ]


def test_the_python_blocks_run_in_order_and_all_is_well_with_their_chains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "readme"}
    code = blocks("python")
    assert code
    for line, block in code:
        # Blank lines in front, so that a traceback names the README's own line.
        exec(compile("\n" * (line - 1) + block, str(README), "exec"), namespace)
    for run in (namespace["mcmc"], namespace["chains"]):
        assert run.diagnose().startswith("All is well")
    assert namespace["found"].passed


def test_the_quick_start_is_fifteen_lines():
    _, code = blocks("python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15


def test_what_the_matrix_names_is_there():
    table = README.read_text().split("what holds it\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert rows
    for row in rows:
        _, _, calls, tutorials, tests, _ = row.split("|")
        for links in (tutorials, tests):
            paths = re.findall(r"\]\((.*?)\)", links)
            assert paths, row
            assert all((README.parent / path).is_file() for path in paths), row
        # Names of the package that stand at the head of a call.
        heads = re.findall(r"`(\w+)", calls)
        assert set(heads) <= set(ebm.__all__), row


def test_one_main_command_and_one_test_command_are_named():
    commands = [
        command.strip().removeprefix("$ ").partition("#")[0].strip()
        for _, block in blocks("console", "bash", "sh", "shell")
        for command in block.splitlines()
    ]
    assert commands.count("make demo") == 1
    assert commands.count("make test") == 1
