"""Who takes part in what, with which settings.

Peers are at their best: the best of several numbers of chains, metrics with correlations where the
posterior is slanted, and for nutpie the better of its two compilers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .targets import INDEPENDENT, SLANTED, reference

OURS, NUTPIE, NUMPYRO, PYRO, EBMKIT = "pyro_ebm", "nutpie", "NumPyro", "Pyro", "ebmkit"
LIBRARIES = (OURS, NUTPIE, NUMPYRO, PYRO, EBMKIT)
# In the order of the tables; those of one library share their first word.
COLUMNS = (
    f"{OURS} float32",
    f"{OURS} float64",
    NUTPIE,
    f"{NUMPYRO} vectorised",
    f"{NUMPYRO} sequential",
    f"{PYRO}",
    f"{PYRO} jit",
)
GEARS: Mapping[str, bool | str] = {"traced": False, "compiled": True, "auto": "auto"}
USUAL_GEARS = ("auto",)
# By number of chains the transitions of warm-up and the draws of every chain.
_OURS = {16: (200, 500), 64: (100, 200), 256: (100, 100), 1024: (100, 100)}
_NUTPIE = {4: (400, 1500), 16: (300, 500), 64: (300, 250)}
_VECTORISED = {4: (500, 1000), 16: (300, 500), 64: (300, 200)}
_SEQUENTIAL = {1: (500, 1500), 4: (500, 1000)}
_PYRO = (200, 200)
# A gradient that takes a minute to compile is tried for few and for many chains.
_COMPILED = (64, 1024)
# More parameters than these take twice the warm-up of ours.
_SMALL = 12
_SECONDS, _SECONDS_OF_PYRO = 150.0, 120.0
# Models whose gradient numba has no fast code for.
JAX_ALONE = {"garch11", "gp_regr"}


class Contestant(NamedTuple):
    """What is run: a module with its options; ``threads`` as :func:`.process.measure` takes them.

    ``column`` is where it stands in the tables, the library with its way of working.
    """

    target: str
    column: str
    setting: str
    module: str
    options: Mapping[str, Any]
    time_limit: float = _SECONDS
    threads: int | None = None

    @property
    def library(self) -> str:
        """The library's name alone."""
        return self.column.split()[0]

    @property
    def way(self) -> Any:
        """How it compiles, where a column has several ways."""
        return self.options.get("backend", self.options.get("jit_compile"))


def contestants(
    target: str,
    *,
    libraries: Sequence[str] = LIBRARIES,
    gears: Sequence[str] = USUAL_GEARS,
) -> list[Contestant]:
    """All that take part on a target."""
    if target in INDEPENDENT:
        everyone = [*_ours(target, gears, {64: _OURS[64]}), _ebmkit(target)]
    else:
        everyone = [
            *_ours(target, gears, _OURS),
            *_nutpie(target),
            *_numpyro(target),
            *_pyro(target),
        ]
    return [one for one in everyone if one.library in libraries]


def _length(chains: int, warmup: int, num_draws: int) -> dict[str, int]:
    return {"chains": chains, "warmup": warmup, "num_draws": num_draws}


def _ours(
    target: str, gears: Sequence[str], lengths: Mapping[int, tuple[int, int]]
) -> Iterator[Contestant]:
    large = len(reference(target).parameters) > _SMALL
    for dtype in ("float32", "float64"):
        for gear in gears:
            for chains, (warmup, num_draws) in lengths.items():
                if GEARS[gear] is True and chains not in _COMPILED:
                    continue
                options = {
                    **_length(chains, warmup * (1 + large), num_draws),
                    "dtype": dtype,
                    "jit_compile": GEARS[gear],
                }
                setting = f"{chains} chains, {gear}"
                yield Contestant(target, f"{OURS} {dtype}", setting, "benchmarks.ours", options)


def _nutpie(target: str) -> Iterator[Contestant]:
    backends = {chains: ["jax" if target in JAX_ALONE else "numba"] for chains in _NUTPIE}
    if target not in JAX_ALONE:
        backends[min(_NUTPIE)].append("jax")
    for chains, (warmup, num_draws) in _NUTPIE.items():
        for backend in backends[chains]:
            options = {
                **_length(chains, warmup, num_draws),
                "backend": backend,
                "low_rank": target in SLANTED,
            }
            setting = f"{chains} chains, {backend}"
            yield Contestant(target, NUTPIE, setting, "benchmarks.peers.nutpie_nuts", options)


def _numpyro(target: str) -> Iterator[Contestant]:
    module = "benchmarks.peers.numpyro_nuts"
    for method, lengths in {"vectorised": _VECTORISED, "sequential": _SEQUENTIAL}.items():
        # The library's own word is spelt the other way.
        word = method.replace("ised", "ized")
        for chains, (warmup, num_draws) in lengths.items():
            options = {**_length(chains, warmup, num_draws), "chain_method": word}
            setting = f"{chains} chain{'s' if chains > 1 else ''}"
            yield Contestant(target, f"{NUMPYRO} {method}", setting, module, options)


def _pyro(target: str) -> Iterator[Contestant]:
    for jit in (False, True):
        options = {**_length(1, *_PYRO), "jit": jit}
        yield Contestant(
            target,
            f"{PYRO} jit" if jit else PYRO,
            "1 chain",
            "benchmarks.peers.pyro_nuts",
            options,
            time_limit=_SECONDS_OF_PYRO,
            threads=1,
        )


def _ebmkit(target: str) -> Contestant:
    options = _length(64, 100, 200)
    module = "benchmarks.peers.ebmkit_nuts"
    return Contestant(target, EBMKIT, "64 chains", module, options, time_limit=300.0, threads=1)
