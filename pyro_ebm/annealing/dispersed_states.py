"""Where a discrete target is, as far as simulated annealing and short chains can tell.

Chains of the target begin at random states and at the lowest energies in which runs of simulated
annealing end, two at each: a state that holds its chains, and that no particle has come to, shows
by them. How much the target weighs around a chain is measured by independent sites with the chain's
own frequencies q,

    Z_around = E_q[exp(log p - log q)],

which is close where sites are nearly independent around it, as they are around a deep state. A deep
state to which no slope leads, as a hole in a plain, is not found by annealing and stays unseen.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_ebm.mcmc.simulated_annealing import anneal, descend, steps_of_a_sweep
from pyro_ebm.target import Target

from .dispersed import NUM_CHAINS, Dispersed
from .families import independent
from .moves import Mover, Tuning
from .states import independent_sites
from .weights import effective_sample_size, log_mean_exp

# Runs of simulated annealing, and their sweeps, of so many steps at most where these are costly.
_RUNS, _SWEEPS, _FEWEST_SWEEPS, _MOST_STEPS = 128, 200, 4, 4000
_DESCENT = 4
# Chains at each of the lowest states.
_TWICE = 2
# Transitions from the starts, and from each chain that is looked at more closely in so many copies.
_TRANSITIONS, _COPIES, _TRANSITIONS_AROUND = 50, 128, 10
# Draws of the independent sites; of fewer effective ones nothing can be told.
_DRAWS, _LEAST_ESS = 4096, 10.0


def disperse_states(
    target: Target, mover: Mover, tuning: Tuning, generator: torch.Generator
) -> Dispersed:
    """Run chains from random states and from the lowest ones that are found."""
    half = NUM_CHAINS // 2
    starts = target.initial_positions(_RUNS, generator=generator)
    lowest = _lowest_states(target, starts, generator)[:, : half // _TWICE]
    order = torch.arange(half, device=starts.device) % lowest.shape[1]
    begun = torch.cat([starts[:, :half], lowest[:, order]], dim=1).contiguous()
    last = _moved(mover, tuning, begun, _TRANSITIONS, generator)
    return Dispersed(last, independent(last), lowest)


def log_mass_around(
    target: Target, mover: Mover, tuning: Tuning, position: Tensor, generator: torch.Generator
) -> float:
    """log of what the target weighs around a state [dim]; -inf where that cannot be told."""
    states = target.num_states
    assert states is not None
    copies = position[:, None].repeat(1, _COPIES)
    around = _moved(mover, tuning, copies, _TRANSITIONS_AROUND, generator).long()
    counts = torch.nn.functional.one_hot(around, states).double().sum(1)
    shares = (counts + 1.0 / states) / (_COPIES + 1.0)
    base = independent_sites(target, shares.log())
    drawn = base.sample(_DRAWS, generator)
    log_base, _ = base.log_density_and_gradient(drawn)
    log_weights = target.evaluate(drawn.T).log_density.double() - log_base.double()
    if effective_sample_size(log_weights) < _LEAST_ESS:
        return -math.inf
    return float(log_mean_exp(log_weights))


def _lowest_states(target: Target, starts: Tensor, generator: torch.Generator) -> Tensor:
    """Distinct states [dim, n] in which annealed runs end, the lowest energy first."""
    most = max(_FEWEST_SWEEPS, _MOST_STEPS // steps_of_a_sweep(target))
    ends = anneal(target, starts, min(_SWEEPS, most), generator)
    ends, _ = descend(target.log_density_and_changes, ends, _DESCENT * target.dim)
    distinct = ends.unique(dim=1)
    log_density = target.evaluate(distinct.T).log_density
    return distinct[:, log_density.argsort(descending=True, stable=True)]


def _moved(
    mover: Mover,
    tuning: Tuning,
    positions: Tensor,
    num_transitions: int,
    generator: torch.Generator,
) -> Tensor:
    """Positions after transitions that leave the target invariant."""
    step_size, factor = tuning.at(1.0)
    for _ in range(num_transitions):
        chain, _ = mover.enter(positions, 1.0, factor)
        positions = mover.move(chain, positions, 1.0, step_size, factor, generator).positions
    return positions
