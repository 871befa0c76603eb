"""The command line: `python -m pyro_ebm demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0, 1 when it failed.

    :param arguments: the words after the program's name; None means the process's own.
    :raises SystemExit: with status 2 for words it does not know, with 0 after `--help`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pyro_ebm",
        description="Energies in Pyro models, sampled with many chains and judged in ArviZ.",
    )
    commands = parser.add_subparsers(dest="command", title="commands")
    demo = commands.add_parser(
        "demo",
        help="eight schools with an energy: a table, a verdict, draws and pictures",
        description="Sample the eight-schools model with an energy inside and judge the run.",
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="where the draws and pictures go (default: demo)",
    )
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    from pyro_ebm.demo import run_demo

    try:
        run_demo(chosen.out)
    except (ImportError, OSError) as error:
        print(f"python -m pyro_ebm demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
