"""What there is on this machine: versions, devices, and what code can be compiled with."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch

from pyro_ebm.c_compiler import NoLibrary, compiler
from pyro_ebm.cache import cache_folder
from pyro_ebm.mcmc.native.library import library

_PACKAGES = ("torch", "pyro-ppl", "arviz", "arviz-stats", "numpy", "scipy")
_EXTRAS = ("matplotlib", "h5netcdf", "zuko", "scikit-learn", "distributed", "cloudpickle", "zarr")


def info() -> str:
    """It all, a line each."""
    lines = {
        "pyro_ebm": _version("pyro_ebm") or "from a source tree",
        "Python": f"{platform.python_version()} on {platform.platform()}",
        **{name: _version(name) or "missing" for name in _PACKAGES},
        **{f"{name} (optional)": _version(name) or "not installed" for name in _EXTRAS},
        "Processors": f"{os.cpu_count()}; torch uses {torch.get_num_threads()} threads",
        "Devices": ", ".join(["cpu", *_cuda()]),
        "C compiler": _compiler(),
        "Gears": _gears(),
        "Cache folder": f"{cache_folder()} ({_cached()})",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cuda() -> list[str]:
    if not torch.cuda.is_available():
        return []
    names = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return [f"cuda:{i} ({name})" for i, name in enumerate(names)]


def _compiler() -> str:
    try:
        return " ".join(compiler())
    except NoLibrary as error:
        return str(error)


def _gears() -> str:
    try:
        library("nuts_float")
    except NoLibrary as error:
        return f"traced only, because {error}"
    return "traced, native, compiled"


def _cached() -> str:
    folder = cache_folder()
    if not folder.is_dir():
        return "not made yet"
    files = [path for path in folder.rglob("*") if path.is_file()]
    return f"{len(files)} files, {sum(path.stat().st_size for path in files) / 2**20:.1f} MiB"
