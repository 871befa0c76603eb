"""Compiles a C file of this folder with the machine's own compiler, once, and loads it."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
from pathlib import Path

from pyro_ebm.cache import kept

_OPTIONS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
)
_COMPILERS = ("cc", "gcc", "clang")
_SECONDS = 120.0


class NoLibrary(Exception):
    """Why there is no compiled library, in a few words."""


def library(name: str) -> ctypes.CDLL:
    """The library of ``name``.c, compiled now if no earlier process has.

    :raises NoLibrary: no compiler, one that fails, or nowhere to keep what it makes.
    """
    found = _library(name)
    if isinstance(found, str):
        raise NoLibrary(found)
    return found


@functools.cache
def _library(name: str) -> ctypes.CDLL | str:
    """The library, or why there is none: what fails once in a process is not tried again."""
    try:
        return _loaded(name)
    except NoLibrary as error:
        return str(error)
    except OSError as error:
        return f"the compiled code cannot be kept or loaded: {error}"


def _loaded(name: str) -> ctypes.CDLL:
    source = Path(__file__).with_name(f"{name}.c")
    command = compiler()
    stamp = os.stat(command[0]).st_mtime_ns
    sources = [source, *sorted(source.parent.glob("*.h"))]
    parts = (*(each.read_bytes() for each in sources), *map(str, command), str(stamp), *_OPTIONS)
    path = kept(name, ".so", parts, functools.partial(_compile, command, source))
    return ctypes.CDLL(str(path))


def compiler() -> list[str]:
    """The command, its program by its whole path: $CC, else the first that there is.

    :raises NoLibrary: there is none.
    """
    given = (os.environ.get("CC") or "").split()
    for command in [given] if given else [[each] for each in _COMPILERS]:
        program = shutil.which(command[0])
        if program is not None:
            return [os.path.realpath(program) if not given else program, *command[1:]]
    names = (
        f"$CC is {' '.join(given)!r}, which is no program"
        if given
        else "none of " + ", ".join(_COMPILERS)
    )
    raise NoLibrary(f"no C compiler is found ({names})")


def _compile(compiler: list[str], source: Path, made: Path) -> None:
    command = [*compiler, *_OPTIONS, "-o", str(made), str(source), "-lm"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or ["it says nothing"]
        raise NoLibrary(f"{compiler[0]} fails: {lines[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise NoLibrary(f"{compiler[0]} takes more than {_SECONDS:.0f} s") from error
    if not made.exists():
        raise NoLibrary(f"{compiler[0]} makes nothing")
