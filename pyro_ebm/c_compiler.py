"""Compiles C with the machine's own compiler, once, and loads it."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .cache import kept

_OPTIONS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
)
_COMPILERS = ("cc", "gcc", "clang")
_SECONDS = 120.0


class NoLibrary(Exception):
    """Why there is no compiled library, in a few words."""


def made_from_file(source: Path, *, options: Sequence[str] = ()) -> ctypes.CDLL:
    """The library of a C file and the headers beside it, compiled now if no earlier process has.

    :raises NoLibrary: no compiler, one that fails, or nowhere to keep what it makes.
    """
    headers = [path.read_bytes() for path in sorted(source.parent.glob("*.h"))]
    return _made(source.stem, [source.read_bytes(), *headers], source, options)


def made_from_text(name: str, text: str) -> ctypes.CDLL:
    """The same of C that is written here and now."""
    return _made(name, [text.encode()], text, ())


def _made(
    name: str, parts: Sequence[bytes], source: Path | str, options: Sequence[str]
) -> ctypes.CDLL:
    command = [*compiler(), *_OPTIONS, *options]
    stamp = os.stat(command[0]).st_mtime_ns
    make = functools.partial(_compile, command, source)
    try:
        path = kept(name, ".so", (*parts, *command, str(stamp)), make)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NoLibrary(f"the compiled code cannot be kept or loaded: {error}") from error


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


def _compile(command: Sequence[str], source: Path | str, made: Path) -> None:
    written = made.with_suffix(".c")
    if isinstance(source, str):
        written.write_text(source)
        source = written
    whole = [*command, "-o", str(made), str(source), "-lm"]
    try:
        subprocess.run(whole, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or ["it says nothing"]
        raise NoLibrary(f"{command[0]} fails: {lines[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise NoLibrary(f"{command[0]} takes more than {_SECONDS:.0f} s") from error
    finally:
        written.unlink(missing_ok=True)
    if not made.exists():
        raise NoLibrary(f"{command[0]} makes nothing")
