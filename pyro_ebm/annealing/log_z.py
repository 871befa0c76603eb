"""An estimate of a log normaliser, with its error, and with what is to be held of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.target import Target

from .weights import systematic_resampling


@dataclass(frozen=True)
class Backward:
    """What draws of the target say of log Z, annealed down to the base.

    ``works`` [m] are minus the logarithms of what is averaged to 1/Z; ``upper`` with
    ``upper_error`` is the estimate from them alone, a stochastic upper bound where the draws are
    exact; ``bennett`` with ``bennett_error`` is that from forward and backward paths together.
    """

    works: Float[Tensor, " draws"]
    upper: float
    upper_error: float
    bennett: float
    bennett_error: float
    exact: bool = False


@dataclass(frozen=True)
class LogZ:
    """log Z of a density, or the log evidence of a model.

    ``log_z`` and ``std_error`` are in nats. ``reliable`` says whether every check was passed, and
    ``why``, in a sentence, on what that rests or what speaks against it: no check can see a mode
    that neither the base nor any chain has met. ``ess`` of ``num_particles`` is the effective
    sample size of the weights, ``khat`` the Pareto shape of their tail. ``positions`` [dim, n] with
    ``log_weights`` [n] are weighted draws in unconstrained coordinates; ``path`` holds, by name,
    what was met at each inverse temperature, and ``details`` how the estimate was made, with
    ``complete`` for whether its run came to the end.
    ``unbiased`` tells whether exp(log_z) has the mean Z exactly, whatever the number of particles.
    """

    log_z: float
    std_error: float
    method: str
    reliable: bool
    why: str
    ess: float = math.nan
    khat: float = math.nan
    num_particles: int = 0
    log_weights: Tensor | None = None
    positions: Tensor | None = None
    target: Target | None = None
    backward: Backward | None = None
    path: Mapping[str, list[float]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    unbiased: bool = False

    def __repr__(self) -> str:
        if not math.isfinite(self.log_z):
            return f"{self.log_z} [not reliable: {self.why}]"
        digits = 3
        if 0.0 < self.std_error < math.inf:
            digits = min(8, max(3, 1 - math.floor(math.log10(self.std_error))))
        checks = []
        if self.num_particles > 0:
            checks.append(f"ESS {self.ess:.0f}/{self.num_particles}")
        if math.isfinite(self.khat):
            checks.append(f"k {self.khat:.2f}")
        if not self.reliable:
            checks.append("not reliable")
        shown = f"{self.log_z:.{digits}f} ± {self.std_error:.{digits}f}"
        return f"{shown} [{', '.join(checks)}]" if checks else shown

    def __str__(self) -> str:
        return repr(self)

    def __float__(self) -> float:
        return self.log_z

    @property
    def barrier(self) -> float:
        """The global barrier between base and target; NaN for methods that have none."""
        local = self.path.get("barrier")
        return sum(local) if local else math.nan

    def interval(self, prob: float = 0.95) -> tuple[float, float]:
        """The central interval of a Gaussian with this error.

        :raises ValueError: a probability outside of (0, 1).
        """
        if not 0.0 < prob < 1.0:
            raise ValueError(f"expected prob in (0, 1), got {prob}.")
        half = NormalDist().inv_cdf(0.5 + 0.5 * prob) * self.std_error
        return self.log_z - half, self.log_z + half

    def bounds(self, prob: float = 0.95) -> tuple[float, float]:
        """A stochastic lower and upper bound, each wrong with probability (1 - prob) / 2 at most.

        By Markov's inequality P(forward > log Z + b) <= exp(-b) where exp(forward) has the mean Z,
        as it has of AIS, and of SMC unless its schedule is :class:`Adaptive`; and likewise
        backwards. The upper one is a bound only where ``backward.exact``; otherwise it is a
        diagnostic.

        :raises ValueError: where the mean of exp(log_z) is not Z, without backward draws, or a
            probability outside of (0, 1).
        """
        if not 0.0 < prob < 1.0:
            raise ValueError(f"expected prob in (0, 1), got {prob}.")
        if not self.unbiased:
            raise ValueError(
                "expected an estimate whose exp(log_z) has the mean Z exactly, as those of AIS and "
                "of SMC with a schedule fixed beforehand have when the run was neither interrupted "
                f"nor its last round repeated; this one by {self.method} has not, and so Markov's "
                "inequality gives no bound. interval() needs no such mean."
            )
        if self.backward is None:
            raise ValueError(
                "expected an estimate with draws annealed backwards, got a forward one: run with "
                "reverse=True, or reverse= draws of the target."
            )
        margin = -math.log(0.5 * (1.0 - prob))
        return self.log_z - margin, self.backward.upper + margin

    def draws(self, num_draws: int | None = None) -> dict[str, Tensor]:
        """Draws of the target by site, [num_draws, *shape], taken in proportion to their weights.

        :param num_draws: as many as the effective sample size unless given.
        :raises ValueError: the estimate holds no weighted draws, or fewer than one is asked for.
        """
        if num_draws is not None and num_draws < 1:
            raise ValueError(f"expected num_draws to be at least 1, got {num_draws}.")
        if self.positions is None or self.log_weights is None or self.target is None:
            raise ValueError(f"expected an estimate with weighted draws; {self.method} has none.")
        number = num_draws or max(1, int(self.ess))
        weights = self.log_weights.softmax(0)
        offset = float(torch.rand(()))
        if number == len(weights):
            chosen = systematic_resampling(self.log_weights, offset)
        else:
            points = (torch.arange(number, dtype=torch.float64) + offset) / number
            chosen = torch.searchsorted(weights.cumsum(0).cpu(), points).clamp(max=len(weights) - 1)
        return self.target.constrain(self.positions[:, chosen.to(self.positions.device)].T)

    def to_arviz(self) -> Any:
        """ArviZ data with the weighted draws and a group ``annealing``: see :mod:`.export`."""
        from .export import to_arviz

        return to_arviz(self)
