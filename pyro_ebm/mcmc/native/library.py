"""The C files of this folder, compiled with the machine's own compiler, once, and loaded."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from pyro_ebm.c_compiler import NoLibrary, made_from_file

# Sums over coordinates run along the processor's vectors.
_OPTIONS = ("-fassociative-math",)


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
        return made_from_file(Path(__file__).with_name(f"{name}.c"), options=_OPTIONS)
    except NoLibrary as error:
        return str(error)
