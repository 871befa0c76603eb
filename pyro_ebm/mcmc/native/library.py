"""Compiles a C file of this folder with the machine's own compiler, once, and loads it.

The library is kept in the user's cache folder, under a name made of everything that it depends on:
the source, the compiler and its options, the processor.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

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


def cache_folder() -> Path:
    """Where compiled code is kept: $PYRO_EBM_CACHE, else pyro_ebm in the user's cache folder."""
    given = os.environ.get("PYRO_EBM_CACHE")
    if given:
        return Path(given)
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pyro_ebm"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "pyro_ebm"


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """The library of ``name``.c, compiled now if no earlier process has.

    :raises NoLibrary: no compiler, one that fails, or nowhere to keep what it makes.
    """
    source = Path(__file__).with_name(f"{name}.c")
    compiler = os.environ.get("CC") or next(filter(shutil.which, _COMPILERS), None)
    if compiler is None:
        raise NoLibrary(f"no C compiler is found ({', '.join(_COMPILERS)}, or $CC)")
    parts = (source.read_bytes(), compiler, _version(compiler), *_OPTIONS, _processor())
    key = hashlib.sha256()
    for part in parts:
        key.update(part if isinstance(part, bytes) else part.encode())
        key.update(b"\0")
    try:
        kept = cache_folder() / f"{name}-{key.hexdigest()[:16]}.so"
        if not kept.exists():
            _compile(compiler, source, kept)
        return ctypes.CDLL(str(kept))
    except OSError as error:
        raise NoLibrary(f"the compiled code cannot be kept or loaded: {error}") from error


def _compile(compiler: str, source: Path, kept: Path) -> None:
    """Into a file of its own first, so that no process sees a half-written one."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        made = Path(folder) / kept.name
        command = [*compiler.split(), *_OPTIONS, "-o", str(made), str(source), "-lm"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or "it says nothing").strip().splitlines()
            raise NoLibrary(f"{compiler} fails: {lines[0]}") from error
        except subprocess.TimeoutExpired as error:
            raise NoLibrary(f"{compiler} takes more than {_SECONDS:.0f} s") from error
        os.replace(made, kept)


def _version(compiler: str) -> str:
    """The compiler's file with its time, which costs less to ask for than its version."""
    path = shutil.which(compiler.split()[0])
    return f"{os.path.realpath(path)} {os.stat(path).st_mtime_ns}" if path else ""


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {flags}"
