"""From an energy that is linear in its params to log Z over a box, by a pool of replicas.

States are put closer together until neighbours swap; then one long run makes the pool. It is
trusted where replicas born in the uniform law have got everywhere, where ladders that began with
all sites in one state agree with those that began in another, and where the draws that a point of
the box is reweighted from are many.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_ebm.energies.enumeration import count_configurations

from .box import Box, Check
from .counted import CountedSurface, Levels, levels_of
from .grid import Grid, first_grid
from .linear import LinearEnergy, log_z_of_levels
from .replicas import FROM_THE_START, Pool, Sampler

_REFINEMENTS = 6
# Draws of the uniform law that are looked at first.
_LOOKED_AT = 256
# Draws that every point should be reweighted from, and replicas that each ladder should have seen
# at every point.
_ENOUGH, _ARRIVALS = 50.0, 3
_FALSE_ALARMS = 1e-4
# An error that changes a posterior.
TOO_MUCH = 0.3


def counted_surface(
    linear: LinearEnergy,
    box: Box,
    *,
    num_ladders: int,
    num_sweeps: int,
    generator: torch.Generator,
) -> CountedSurface | None:
    """The surface; None where the energy is not linear.

    :raises ValueError: an energy that is not finite somewhere.
    """
    sampler = Sampler(linear, box.temperature, num_ladders)
    spread = _spread(sampler, box, generator)
    grid = first_grid(box.low, box.high, spread)
    short = max(10, num_sweeps // 10)
    for _ in range(_REFINEMENTS):
        pilot = sampler.pool(grid, short, short // 2, generator)
        finer = grid.refined(pilot.accepted)
        if finer is None:
            break
        grid = finer
    pool = sampler.pool(grid, num_sweeps, num_sweeps // 5, generator)
    _check_finite(pool.statistics)
    if not pool.linear:
        return None
    log_states = math.log(count_configurations(linear.energy))
    levels = levels_of(pool, grid, box.temperature, log_states)
    check = _check(levels, sampler.kinds, box)
    found = CountedSurface(
        box, levels.statistics, levels.log_counts, levels.without_one, check, True, ""
    )
    problems = [*_movement(pool, grid), *_trust(found, levels, sampler.kinds)]
    why = " ".join(problems) or (
        f"ladders that began in different states agree within "
        f"{float((check.surface - check.independent).abs().max()):.2g}, and replicas born at s = 0 "
        "got everywhere."
    )
    return found._replace(reliable=not problems, why=why)


def _spread(sampler: Sampler, box: Box, generator: torch.Generator) -> float:
    """The largest spread of E/T in the box under the uniform law."""
    numbers = sampler.uniform(_LOOKED_AT, generator)
    statistics = sampler.linear.statistics(sampler.values(numbers))
    _check_finite(statistics)
    points = box.grid()
    energies = statistics[:, :1] + statistics[:, 1:] @ points.T
    return float(energies.std(0).max()) / box.temperature


def _check_finite(statistics: Tensor) -> None:
    if not bool(statistics.isfinite().all()):
        raise ValueError(
            "expected an energy that is finite for all configurations and params of the box, got "
            "one that is not. Take a box where it is, listed_log_normalizer, or "
            "MCMC(Exchange(model))."
        )


def _check(levels: Levels, kinds: Tensor, box: Box) -> Check:
    """log Z less that at the middle, of the ladders of the kind that is worst and of all others."""
    points = box.grid()
    by_ladder = _by_ladder(levels, points, box) - _by_ladder(levels, box.middle[None], box)
    present = [kinds == kind for kind in kinds.unique()]
    scatter = sum((by_ladder[own] - by_ladder[own].mean(0)).square().sum(0) for own in present)
    variance = torch.as_tensor(scatter) / (len(kinds) - len(present))
    found = []
    for own in present:
        error = (variance * (1 / own.sum() + 1 / (~own).sum())).sqrt()
        found.append(Check(points, by_ladder[own].mean(0), by_ladder[~own].mean(0), error))
    return max(found, key=lambda each: float((each.surface - each.independent).abs().max()))


def _by_ladder(levels: Levels, points: Tensor, box: Box) -> Tensor:
    """What each ladder says of log Z at points [ladders, n], from what leaving it out changes."""
    at = [*points.unbind(-1)], torch.tensor(box.temperature, dtype=torch.float64)
    whole = log_z_of_levels(levels.statistics, levels.log_counts, *at)
    without = log_z_of_levels(levels.statistics, levels.without_one, *at)
    return whole + (len(without) - 1) * (whole - without)


def _movement(pool: Pool, grid: Grid) -> list[str]:
    """Whether replicas went from s = 0 to everywhere."""
    came = pool.born != FROM_THE_START
    never = ~came.any(0).all(-1)
    if bool(never.any()):
        return [
            f"At {_rounded(grid.nodes[int(never.int().argmax())])} no replica has arrived from "
            "s = 0: raise num_sweeps, or take a wider box, from which replicas can come."
        ]
    ladders = pool.born.shape[2]
    arrivals = torch.tensor([len(born[born >= 0].unique()) for born in pool.born.unbind(1)])
    fewest = int(arrivals.argmin())
    if int(arrivals[fewest]) >= _ARRIVALS * ladders:
        return []
    return [
        f"At {_rounded(grid.nodes[fewest])} only {int(arrivals[fewest])} replicas of {ladders} "
        "ladders have arrived from s = 0: raise num_sweeps."
    ]


def _trust(found: CountedSurface, levels: Levels, kinds: Tensor) -> list[str]:
    """Whether ladders agree, and every point is told from many draws."""
    box, check = found.box, found.check
    if not bool(levels.log_counts.isfinite().any()):
        return ["The draws of its states do not overlap: raise num_sweeps, or take a smaller box."]
    from scipy.stats import t

    problems = []
    largest = found.max_error
    if not largest <= TOO_MUCH:
        problems.append(
            f"Within the box log Z may be off by {largest:.2g}, enough to change a posterior: "
            "raise num_sweeps or num_chains, or take a smaller box."
        )
    apart = (check.surface - check.independent).abs()
    limit = float(t.isf(_FALSE_ALARMS / 2, len(kinds) - len(kinds.unique())))
    differ = (apart > limit * check.error + 1e-9) | (apart > 2 * TOO_MUCH)
    if bool(differ.any()):
        worst = int(torch.where(differ, apart, 0.0).argmax())
        problems.append(
            f"At {_rounded(check.params[worst])} ladders that began in different states differ by "
            f"{float(apart[worst]):.2g}: raise num_sweeps."
        )
    points = box.grid()
    ess = _worth(found, levels, points)
    if not problems and float(ess.min()) < _ENOUGH:
        problems.append(
            f"At {_rounded(points[int(ess.argmin())])} it rests on draws that are worth "
            f"{float(ess.min()):.0f}: raise num_sweeps or num_chains, or take a smaller box."
        )
    return problems


def _worth(found: CountedSurface, levels: Levels, points: Tensor) -> Tensor:
    """How many equally weighted draws the estimate at each point is worth."""
    temperature = found.box.temperature
    energy = levels.statistics[:, :1] + levels.statistics[:, 1:] @ points.T
    weights = (levels.log_counts[:, None] - energy / temperature).softmax(0)
    return 1 / (weights.square() / levels.counts[:, None]).sum(0)


def _rounded(point: Tensor) -> list[float]:
    return [round(float(value), 3) for value in point]
