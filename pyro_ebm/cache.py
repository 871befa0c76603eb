"""Compiled code, kept from one process to the next.

A file is named by what its code depends on, and by a digest of itself: one that was cut short or
damaged is seen before it is loaded, and made anew. Code is loaded from no folder that others may
write to.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def cache_folder() -> Path:
    """$PYRO_EBM_CACHE, else pyro_ebm in the user's cache folder."""
    given = os.environ.get("PYRO_EBM_CACHE")
    if given:
        return Path(given).expanduser()
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pyro_ebm"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "pyro_ebm"


def kept(
    name: str, suffix: str, parts: Iterable[str | bytes], make: Callable[[Path], None]
) -> Path:
    """The file with the code that is made of these parts on this processor.

    :param make: makes it at a path, where no earlier process has.
    :raises OSError: there is no folder to keep it in, or others may write to it.
    """
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_own(folder)
    stem = f"{name}-{_digest((*parts, _processor()))}"
    for found in folder.glob(f"{stem}-*{suffix}"):
        if found.name == f"{stem}-{_digest([found.read_bytes()])}{suffix}":
            return found
        found.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        made = Path(aside) / f"made{suffix}"
        make(made)
        content = made.read_bytes()
        with made.open("rb+") as file:
            os.fsync(file.fileno())
        # Moved as a whole, so that no process sees half of it.
        final = folder / f"{stem}-{_digest([content])}{suffix}"
        os.replace(made, final)
    return final


def _check_own(folder: Path) -> None:
    if not hasattr(os, "getuid"):
        return
    found = folder.stat()
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & stat.S_IWOTH:
        raise PermissionError(
            f"{folder} belongs to another user or is writable by all: code is not loaded from it. "
            "Set $PYRO_EBM_CACHE to a folder of your own"
        )


def _digest(parts: Iterable[str | bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:20]


def _processor() -> str:
    """What code for "the native processor" depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {flags}"
