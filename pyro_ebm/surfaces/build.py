"""log Z over a box of parameters by thermodynamic integration, with its error and its checks.

The gradient of log Z is a mean, d log Z / d theta = <d log f / d theta>. Many Gibbs chains at
Chebyshev points of the box estimate it, and the polynomial is the one whose slopes fit these means
best, which is the integral of them. Its height at the middle, and checks at other points, come from
integrals along the temperature, log Z(theta) = log N + integral over s from 0 to 1 of <-E/T> at the
inverse temperature s, from the N equal configurations at s = 0, by independent chains.

Source: Gelman, Meng (1998), Simulating normalizing constants; Kirkwood (1935), Statistical
mechanics of fluid mixtures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import Energy, as_energy
from pyro_ebm.energies.enumeration import configurations, count_configurations
from pyro_ebm.mcmc.auxiliary import StateDraws
from pyro_ebm.normalizers import without_normalizers
from pyro_ebm.target import Target
from pyro_ebm.target.auxiliary import auxiliary_sites

from .surface import Check, LogNormalizerSurface, basis, slopes

_MOST_PARAMS, _DEGREES = 4, (14, 8, 5, 4)
# Points of the integral along the temperature, and of the box that are checked.
_TEMPERATURES, _CHECKS = 16, 6
_STANDARD_ERRORS = 4.0
# An error that changes a posterior.
_TOO_MUCH = 0.3
# How often all is well and chains are said to disagree all the same.
_FALSE_ALARMS = 1e-4


def log_normalizer_surface(
    energy: object,
    low: Sequence[float],
    high: Sequence[float],
    *,
    event_shape: object = None,
    support: object = None,
    temperature: float = 1.0,
    degree: int | None = None,
    num_chains: int = 16,
    num_sweeps: int = 300,
) -> LogNormalizerSurface:
    """Estimate log Z of a discrete energy over a box of its params, once and for all.

    Args:
        energy: E(x, *params), as :class:`~pyro_ebm.EnergyDistribution` takes it.
        low: the least value of each of one to four params.
        high: the largest.
        event_shape: the shape of one configuration; None means the energy's own.
        support: its states; None means the energy's own.
        temperature: T, for which the surface holds.
        degree: of the polynomial; unless given 14, 8, 5 or 4 for one to four params.
        num_chains: independent Gibbs chains at every point, at least 4.
        num_sweeps: of every chain, the first fifth of which is not counted.

    Returns:
        A function f(*params, temperature), differentiable, for ``log_normalizer=``, with
        ``std_error(*params)``, ``max_error``, ``check``, ``reliable`` and ``why``.

    Raises:
        TypeError: no energy; bounds that are no numbers.
        ValueError: a continuous energy; an empty box, or one of more than four params; arguments
            out of range.
    """
    wrapped = as_energy(energy, event_shape=event_shape, support=support)
    first = torch.as_tensor(low, dtype=torch.float64).reshape(-1)
    last = torch.as_tensor(high, dtype=torch.float64).reshape(-1)
    _check_arguments(first, last, num_chains, num_sweeps, degree, temperature)
    log_states = math.log(count_configurations(wrapped))
    dim = len(first)
    highest = _DEGREES[dim - 1] if degree is None else degree
    powers = _powers(highest, dim)
    nodes = _nodes(highest + 2, dim)
    chains = _Chains.of(wrapped, dim, temperature, num_chains, num_sweeps)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    half, middle = (last - first) / 2, (last + first) / 2
    with poutine.block():
        scores = chains.scores(middle + half * nodes, torch.ones(len(nodes)), generator)
        points = torch.cat([torch.zeros(1, dim), _held_out(generator, dim)]).double()
        heights = _integrals(chains, middle + half * points, generator) + log_states
    slope = scores.means[:, :dim] * half[:, None]
    coefficients, covariance = _fit(nodes, powers, slope)
    lower = powers.sum(1) <= max(highest - 2, 0)
    last_terms = torch.cat([torch.zeros(1, dtype=torch.float64), coefficients])
    if int(lower.sum()) > 1:
        last_terms[lower] -= torch.cat(
            [torch.zeros(1, dtype=torch.float64), _fit(nodes, powers[lower], slope)[0]]
        )
    height = heights.mean(-1)
    error = heights.std(-1) / num_chains**0.5
    at_middle = basis(torch.zeros(1, dim, dtype=torch.float64), powers)[0, 1:]
    constant = height[0] - at_middle @ coefficients
    whole = torch.block_diag(error[:1].square()[:, None], covariance)
    whole[0, 0] = whole[0, 0] + at_middle @ covariance @ at_middle
    coefficients = torch.cat([constant[None], coefficients])
    surface = basis(points[1:], powers) @ coefficients
    check = Check(middle + half * points[1:], surface, height[1:], error[1:])
    found = LogNormalizerSurface(
        first, last, float(temperature), powers, coefficients, whole, last_terms, check, True, ""
    )
    problems = _problems(found, error[0], scores, middle + half * nodes)
    why = " ".join(problems) or (
        f"at {_CHECKS} other points it differs from independent estimates by "
        f"{float((check.surface - check.independent).abs().max()):.2g} at most, as their errors "
        "allow."
    )
    return found._replace(reliable=not problems, why=why)


class _Scores(NamedTuple):
    """Means over the sweeps of chains [points, dim + 1, chains] of the gradient of log f by the
    params and the inverse temperature; and of these at every point the largest ratio [points] of
    the variance between chains to that between halves of chains, 1 where they have mixed."""

    means: Tensor
    ratio: Tensor


class _Chains(NamedTuple):
    """Gibbs chains of an energy at any params and inverse temperature."""

    draws: StateDraws
    num_chains: int
    num_sweeps: int

    @classmethod
    def of(
        cls, energy: Energy, dim: int, temperature: float, num_chains: int, num_sweeps: int
    ) -> _Chains:
        tempered = _Tempered(energy)
        start = configurations(energy, torch.zeros(1, dtype=torch.long))[0]

        def model() -> None:
            at = pyro.sample(
                "at", dist.Normal(torch.zeros(dim + 1, dtype=torch.float64), 1.0).to_event(1)
            )
            params = (*at.unbind(-1),)
            density = EnergyDistribution(tempered, params=params, temperature=temperature)
            pyro.sample("x", density, obs=start)

        target = Target.freeze(without_normalizers(model, {"x"}), (), {})
        (site,) = auxiliary_sites(target)
        return cls(StateDraws(site, 1, 0, listed=False), num_chains, num_sweeps)

    def scores(self, params: Tensor, betas: Tensor, generator: torch.Generator) -> _Scores:
        """At params [points, d] and inverse temperatures [points]."""
        site, chains = self.draws.site, self.num_chains
        at = torch.cat([params, betas.double()[:, None]], 1).T.repeat_interleave(chains, 1)
        number = at.shape[1]
        states = torch.randint(site.num_states, (site.dim, number), generator=generator)
        y = states.to(at)
        total, halves = torch.zeros_like(at), []
        dropped = self.num_sweeps // 5
        kept = self.num_sweeps - dropped
        for sweep in range(self.num_sweeps):
            numbers = torch.rand(site.dim, number, generator=generator, dtype=at.dtype)
            y = self.draws.swept(at, y, numbers)
            if sweep >= dropped:
                total = total + site.score(at, y)
            if sweep + 1 == dropped + kept // 2:
                halves.append(total / (kept // 2))
        means = (total / kept).reshape(len(at), -1, chains).movedim(0, 1)
        first = halves[0].reshape(len(at), -1, chains).movedim(0, 1)
        second = 2 * means - first
        # Halves of chains that have mixed are independent of one another.
        between = 0.5 * (first + second).var(-1)
        within = 0.5 * (first - second).var(-1).clamp(min=1e-12)
        return _Scores(means, (between / within).amax(1))


class _Tempered(Energy):
    """s E(x; theta), s the last of the params."""

    def __init__(self, energy: Energy) -> None:
        super().__init__(energy.event_shape, support=energy.support)
        self.energy = energy

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        return params[-1] * self.energy(x, *params[:-1])


def _integrals(chains: _Chains, params: Tensor, generator: torch.Generator) -> Tensor:
    """log Z less log N at params [points, d], one estimate of every chain [points, chains]."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(_TEMPERATURES))
    betas = (0.5 * (nodes + 1)).repeat(len(params))
    scores = chains.scores(params.repeat_interleave(_TEMPERATURES, 0), betas, generator)
    slope = scores.means[:, -1].reshape(len(params), _TEMPERATURES, -1)
    return (0.5 * weights[:, None] * slope).sum(1)


def _fit(nodes: Tensor, powers: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of all but the constant whose slopes at the nodes [n, d, chains] fit best, and
    their covariance, from chain to chain."""
    design = slopes(nodes, powers)[..., 1:].reshape(-1, len(powers) - 1)
    data = slope.reshape(len(design), -1)
    by_chain = torch.linalg.lstsq(design, data).solution
    covariance = torch.atleast_2d(torch.cov(by_chain)) / data.shape[1]
    return by_chain.mean(1), covariance


def _powers(degree: int, dim: int) -> Tensor:
    """Degrees of the terms up to a total one, the constant first."""
    every = [p for p in product(range(degree + 1), repeat=dim) if sum(p) <= degree]
    return torch.tensor(sorted(every, key=lambda p: (sum(p), p)))


def _nodes(number: int, dim: int) -> Tensor:
    """Chebyshev points [number^d, d] within -1 and 1."""
    places = (torch.arange(number, dtype=torch.float64) + 0.5) / number
    one = -(math.pi * places).cos()
    return torch.cartesian_prod(*[one] * dim).reshape(-1, dim)


def _held_out(generator: torch.Generator, dim: int) -> Tensor:
    """Points of the box, in units of half its sides: uniform, one within reach of each corner."""
    inside = 2 * torch.rand(_CHECKS - 2, dim, generator=generator) - 1
    return torch.cat([inside, torch.full((1, dim), 0.97), torch.full((1, dim), -0.97)])


def _problems(
    found: LogNormalizerSurface, middle_error: Tensor, scores: _Scores, nodes: Tensor
) -> list[str]:
    from scipy.stats import f

    check, problems = found.check, []
    number = scores.means.shape[-1]
    limit = f.isf(_FALSE_ALARMS / scores.ratio.numel(), number - 1, number)
    if bool((scores.ratio > limit).any()):
        worst = nodes[int(scores.ratio.argmax())]
        problems.append(
            f"Chains at {[round(float(p), 3) for p in worst]} have not met: raise num_sweeps, or "
            "take a smaller box."
        )
    if found.max_error > _TOO_MUCH:
        problems.append(
            f"Within the box log Z may be off by {found.max_error:.2g}, enough to change a "
            "posterior: raise degree or num_sweeps, or take a smaller box."
        )
    own = found.std_error(*check.params.unbind(-1))
    error = (own.square() + check.error.square() + middle_error.square()).sqrt()
    apart = (check.surface - check.independent).abs()
    wrong = apart > _STANDARD_ERRORS * error
    if bool(wrong.any()):
        worst = int((apart / error).argmax())
        problems.append(
            f"At {[round(float(p), 3) for p in check.params[worst]]} it differs by "
            f"{float(apart[worst]):.2g} from an independent estimate with an error of "
            f"{float(error[worst]):.2g}: raise degree or num_sweeps, or take a smaller box."
        )
    return problems


def _check_arguments(
    low: Tensor,
    high: Tensor,
    num_chains: int,
    num_sweeps: int,
    degree: int | None,
    temperature: float,
) -> None:
    if len(low) != len(high) or not 1 <= len(low) <= _MOST_PARAMS:
        raise ValueError(
            f"expected low and high of one to {_MOST_PARAMS} params each, got {len(low)} and "
            f"{len(high)}."
        )
    if not bool((low < high).all()) or not bool(low.isfinite().all() & high.isfinite().all()):
        raise ValueError(
            f"expected finite bounds with low below high, got {low.tolist()} and {high.tolist()}."
        )
    if num_chains < 4 or num_sweeps < 20 or (degree is not None and degree < 1):
        raise ValueError(
            "expected num_chains of at least 4, num_sweeps of at least 20 and a degree of at least "
            f"1, got {num_chains}, {num_sweeps} and {degree}."
        )
    if not 0 < temperature < math.inf:
        raise ValueError(f"expected a positive temperature, got {temperature}.")
