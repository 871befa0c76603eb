"""The command line: `python -m pyro_ebm demo`, `report`, `merge` and `info`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0, 1 when it failed, 2 for what it cannot read.

    :param arguments: the words after the program's name; None means the process's own.
    :raises SystemExit: with status 2 for words it does not know, with 0 after `--help`.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    # Only who runs a command waits for torch.
    from pyro_ebm.report import BadInput

    try:
        chosen.run(chosen)
    except BadInput as error:
        print(f"python -m pyro_ebm {chosen.command}: {error}", file=sys.stderr)
        return 2
    except (ImportError, OSError) as error:
        print(f"python -m pyro_ebm {chosen.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
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
    demo.set_defaults(run=_demo)
    report = commands.add_parser(
        "report",
        help="a run as one page: verdict, summary, pictures, log Z, model",
        description="Write one self-contained HTML page on a run of MCMC or an estimate of log Z.",
    )
    report.add_argument("run_path", type=Path, metavar="RUN", help="a .nc file or a store= folder")
    report.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="PAGE",
        help="where the page goes (default: beside the run, with the ending .html)",
    )
    report.set_defaults(run=_report)
    merge = commands.add_parser(
        "merge",
        help="several runs of one model as one",
        description="Write the chains of several runs of one model into one file of ArviZ data.",
    )
    merge.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=".nc files or folders")
    merge.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="the .nc file to write"
    )
    merge.set_defaults(run=_merge)
    commands.add_parser(
        "info",
        help="versions, devices, compiler, cache",
        description="Say what there is on this machine, as a report of a bug should.",
    ).set_defaults(run=_info)
    return parser


def _demo(chosen: argparse.Namespace) -> None:
    from pyro_ebm.demo import run_demo

    run_demo(chosen.out)


def _report(chosen: argparse.Namespace) -> None:
    from pyro_ebm.report import write_report

    verdict, out = write_report(chosen.run_path, chosen.out)
    print(verdict)
    print(f"Written: {out}")


def _merge(chosen: argparse.Namespace) -> None:
    from pyro_ebm.report import merge

    data, told = merge(chosen.runs, chosen.out)
    for sentence in told:
        print(sentence)
    sizes = data["posterior"].sizes
    print(f"Written: {chosen.out}, {sizes['chain']} chains of {sizes['draw']} draws")


def _info(_: argparse.Namespace) -> None:
    from pyro_ebm.report import info

    print(info())


if __name__ == "__main__":
    sys.exit(main())
