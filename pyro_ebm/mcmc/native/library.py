"""Compiles a C file of this folder with the machine's own compiler, once, and loads it.

The library is kept in the user's cache folder, under a name made of everything that it depends on:
the source, the compiler and its options, the processor.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
from pathlib import Path

from pyro_ebm.cache import cache_folder, kept_whole, key_of

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


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """The library of ``name``.c, compiled now if no earlier process has.

    :raises NoLibrary: no compiler, one that fails, or nowhere to keep what it makes.
    """
    source = Path(__file__).with_name(f"{name}.c")
    compiler = os.environ.get("CC") or next(filter(shutil.which, _COMPILERS), None)
    if compiler is None:
        raise NoLibrary(f"no C compiler is found ({', '.join(_COMPILERS)}, or $CC)")
    key = key_of((source.read_bytes(), compiler, _version(compiler), *_OPTIONS))
    try:
        kept = cache_folder() / f"{name}-{key}.so"
        if not kept.exists():
            _compile(compiler, source, kept)
        return ctypes.CDLL(str(kept))
    except OSError as error:
        raise NoLibrary(f"the compiled code cannot be kept or loaded: {error}") from error


def _compile(compiler: str, source: Path, kept: Path) -> None:
    with kept_whole(kept) as made:
        command = [*compiler.split(), *_OPTIONS, "-o", str(made), str(source), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or "it says nothing").strip().splitlines()
            raise NoLibrary(f"{compiler} fails: {lines[0]}") from error
        except subprocess.TimeoutExpired as error:
            raise NoLibrary(f"{compiler} takes more than {_SECONDS:.0f} s") from error


def _version(compiler: str) -> str:
    """The compiler's file with its time, which costs less to ask for than its version."""
    path = shutil.which(compiler.split()[0])
    return f"{os.path.realpath(path)} {os.stat(path).st_mtime_ns}" if path else ""
