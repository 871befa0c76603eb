"""The log likelihood of held-out rows: what a density says of data that it has not seen.

log p(x) = -E(x)/T - log Z, so that the mean over rows has two errors: that of the rows, which are a
sample, and that of log Z, where it is estimated. The first falls with more rows; the second is the
same for all rows, and does not. Both are told, and together as sqrt(a^2 + b^2).

It is the one measure here that sees whether the shares of far modes are right: it needs log Z.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.annealing import AIS, LogZ
from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import (
    Energy,
    as_temperature,
    check_values,
    evaluate_rows,
    exact_enumeration,
    states_of,
)
from pyro_ebm.energies.enumeration import MAX_CONFIGURATIONS, count_configurations

from .rows import Rows, check_count, configurations, seed_from


class HeldOutLikelihood(NamedTuple):
    """The mean log likelihood of rows, in nats a row.

    ``std_error`` joins ``rows_error``, the standard error over the rows, and ``log_z_error``.
    ``log_likelihood`` [n] holds log p of each row in float64. ``method`` tells where log Z is from,
    ``reliable`` and ``why`` what is to be held of it, and ``estimate`` is the :class:`LogZ` where
    it was estimated.
    """

    mean: float
    std_error: float
    rows_error: float
    log_z: float
    log_z_error: float
    reliable: bool
    why: str
    method: str
    log_likelihood: Float[Tensor, " n"]
    estimate: LogZ | None

    def __repr__(self) -> str:
        doubt = "" if self.reliable else f" [not reliable: {self.why}]"
        return (
            f"{self.mean:.4f} ± {self.std_error:.4f} nats a row (rows ± {self.rows_error:.4f}, "
            f"log Z by {self.method} ± {self.log_z_error:.4f}, {len(self.log_likelihood)} rows)"
            f"{doubt}"
        )


def held_out_log_likelihood(
    energy: object,
    data: Rows,
    *,
    temperature: float | Tensor = 1.0,
    log_z: object = "auto",
    generator: torch.Generator | None = None,
    chunk_size: int = 4096,
) -> HeldOutLikelihood:
    """The mean of -E(x)/T - log Z over rows that were held out.

    :param energy: an Energy; or a net or a function of the event that a row is, on all real
        numbers.
    :param data: rows [n, *event] in the support of the energy, two at least.
    :param temperature: T, one number.
    :param log_z: "auto" takes what the energy knows, else the sum over all configurations of a
        discrete one of 2^22 at most, else :class:`~pyro_ebm.AIS` with its usual settings, which
        may take minutes. Or log Z at this temperature: a number, or an estimate.
    :param generator: the random stream of AIS; torch's global one by default.
    :param chunk_size: how many rows are evaluated at once.
    :raises TypeError: rows, a temperature or a log Z that are none.
    :raises ValueError: rows outside of the support, or at which the energy is no number; a log Z
        that is not finite.

    Source: Neal (2001), Annealed importance sampling; Salakhutdinov, Murray (2008), On the
    quantitative analysis of deep belief networks.
    """
    check_count("chunk_size", chunk_size, least=1)
    known, x = configurations("data", energy, data)
    if len(x) < 2:
        raise ValueError(f"expected at least 2 rows of data, which tell an error, got {len(x)}.")
    level = as_temperature(temperature)
    if level.dim():
        raise ValueError(f"expected one temperature, got shape {tuple(level.shape)}.")
    with torch.no_grad():
        energies = torch.cat([evaluate_rows(known, part) for part in x.split(chunk_size)]).double()
    check_values(energies, x, type(known).__name__)
    found = _log_z(known, float(level), log_z, generator)
    log_likelihood = -energies / float(level) - found.log_z
    # A row of density zero: the mean is minus infinity, and no number of rows makes it less so.
    some = bool(energies.isfinite().all())
    rows_error = float(log_likelihood.std()) / math.sqrt(len(x)) if some else math.inf
    return HeldOutLikelihood(
        mean=float(log_likelihood.mean()),
        std_error=math.hypot(rows_error, found.error),
        rows_error=rows_error,
        log_z=found.log_z,
        log_z_error=found.error,
        reliable=found.reliable,
        why=found.why,
        method=found.method,
        log_likelihood=log_likelihood,
        estimate=found.estimate,
    )


class _Found(NamedTuple):
    """log Z, its error, and where it is from."""

    log_z: float
    error: float
    method: str
    reliable: bool
    why: str
    estimate: LogZ | None = None


def _log_z(
    energy: Energy, temperature: float, given: object, generator: torch.Generator | None
) -> _Found:
    if isinstance(given, LogZ):
        return _estimated(given)
    if isinstance(given, str) and given == "auto":
        return _best_known(energy, temperature, generator)
    if isinstance(given, Tensor) and given.numel() == 1 and not given.is_complex():
        given = given.item()
    if isinstance(given, Real) and not isinstance(given, bool):
        value = float(given)
        if not math.isfinite(value):
            raise ValueError(f"expected a finite log_z, got {value}.")
        return _Found(value, 0.0, "the given number", True, "log Z was given as a number")
    raise TypeError(
        'expected log_z to be "auto", a number, or an estimate by AIS and its kin, got '
        f"{type(given).__name__}{f' {given!r}' if isinstance(given, str) else ''}."
    )


def _best_known(energy: Energy, temperature: float, generator: torch.Generator | None) -> _Found:
    with torch.no_grad():
        closed = energy.log_normalizer(temperature)
    if closed is not None:
        return _Found(float(closed), 0.0, "the energy", True, "the energy knows log Z")
    if states_of(energy.support) is not None and count_configurations(energy) <= MAX_CONFIGURATIONS:
        summed = float(exact_enumeration(energy, temperature).log_z)
        return _Found(summed, 0.0, "enumeration", True, "all configurations were summed over")
    with _seeded(generator):
        return _estimated(AIS(EnergyDistribution(energy, temperature=temperature)).run())


def _estimated(estimate: LogZ) -> _Found:
    return _Found(
        estimate.log_z,
        estimate.std_error,
        estimate.method,
        estimate.reliable,
        estimate.why,
        estimate,
    )


@contextmanager
def _seeded(generator: torch.Generator | None) -> Iterator[None]:
    """Torch's random numbers, from a generator where one is given."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed_from(generator))
        yield
