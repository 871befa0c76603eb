"""Where compiled code is kept from one process to the next, and what it depends on."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """$PYRO_EBM_CACHE, else pyro_ebm in the user's cache folder."""
    given = os.environ.get("PYRO_EBM_CACHE")
    if given:
        return Path(given)
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pyro_ebm"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "pyro_ebm"


def key_of(parts: Iterable[str | bytes]) -> str:
    """A short name for code made of these parts on this processor."""
    digest = hashlib.sha256()
    for part in (*parts, _processor()):
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:20]


@contextmanager
def kept_whole(kept: Path) -> Iterator[Path]:
    """A path to make a file at, which is then moved to where it is kept: whole, or not at all."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        made = Path(folder) / kept.name
        yield made
        os.replace(made, kept)


def _processor() -> str:
    """What code for "the native processor" depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {flags}"
