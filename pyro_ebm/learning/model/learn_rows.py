"""Learning an energy of rows: the base, the net that tilts it, and the objective.

Left to itself a table is learned in two steps that do not fail: a mixture is fitted by expectation
maximisation, and a net that tilts it learns to tell the data from draws of the mixture, a little
widened, by noise-contrastive estimation; it stops when rows held out are no longer told better.
That needs no chains while it learns. The net stays only if rows held out are likelier with it than
by the mixture alone, by more than the error of that: few rows seldom say more than a mixture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_ebm.annealing.weights import log_mean_exp, standard_error
from pyro_ebm.energies import Energy
from pyro_ebm.learning.exact_likelihood import ExactLikelihood, knows_log_z
from pyro_ebm.learning.fit import fit
from pyro_ebm.learning.noise_contrastive import NoiseContrastive
from pyro_ebm.learning.objective import Objective
from pyro_ebm.learning.persistent_contrastive_divergence import PersistentContrastiveDivergence
from pyro_ebm.learning.rows import split_rows
from pyro_ebm.learning.trained import Trained

from .given_energy import GivenEnergy, ShownAs, frozen_copy
from .mixture_base import MixtureBase, fit_mixture
from .row_energy import RowEnergy, convolutions, perceptron
from .row_likelihood import RowLikelihood

COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16)
_NOISE_RATIO = 4
_WEIGHT_DECAY = 1e-3
# Draws of the mixture that log Z of the net is had from.
_DRAWS = 8192


class Recipe(NamedTuple):
    """How to learn; see :class:`.EnergyModel`."""

    energy: Any
    objective: Any
    components: Any
    hidden: Sequence[int]
    num_steps: int
    batch_size: int
    learning_rate: float
    optimizer: Any
    held_out: float
    patience: int | None


class RowNoise(Distribution):
    """A mixture as a distribution, which draws from torch's global stream."""

    def __init__(self, base: MixtureBase) -> None:
        shape = torch.Size((len(base.num_states),))
        super().__init__(event_shape=shape, validate_args=False)
        self.base = base

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        rows = self.base.sample(shape.numel(), None)
        return rows.reshape(shape + self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(value)


def base_for(
    rows: Tensor, num_states: Sequence[int], recipe: Recipe, generator: torch.Generator
) -> MixtureBase:
    """The mixture that a net tilts, fitted to complete rows."""
    wanted = COMPONENTS if recipe.components == "auto" else recipe.components
    return fit_mixture(rows, num_states, components=wanted, generator=generator)


def energy_of(
    recipe: Recipe,
    base: MixtureBase,
    num_states: Sequence[int],
    event_shape: Sequence[int],
    *,
    num_rows: int,
) -> Energy:
    """The energy to be learned from so many rows: a copy of what was given, or the default.

    :raises TypeError: neither "auto" nor an energy nor a net.
    """
    given = recipe.energy
    if isinstance(given, Energy):
        copied = frozen_copy(given)
        assert isinstance(copied, Energy)
        return GivenEnergy(copied, num_states)
    if isinstance(given, nn.Module):
        shape = event_shape if len(event_shape) > 1 else (len(num_states),)
        return RowEnergy(ShownAs(frozen_copy(given), shape), base)
    if given != "auto":
        raise TypeError(
            'expected energy to be "auto", an Energy, or an nn.Module from rows to a number, got '
            f"{type(given).__name__}."
        )
    if len(event_shape) in (2, 3):
        return RowEnergy(convolutions(event_shape, num_states, 16), base)
    return RowEnergy(perceptron(num_states, recipe.hidden, num_rows=num_rows), base)


class LearnedRows(NamedTuple):
    """What :func:`.fit` gave back, and whether the net was taken back, so that the energy is that
    of the mixture."""

    trained: Trained
    is_mixture: bool


def learn_rows(
    energy: Energy,
    rows: Tensor,
    num_states: Sequence[int],
    recipe: Recipe,
    *,
    generator: torch.Generator,
) -> LearnedRows:
    """Learn the parameters of an energy of rows, in place, from complete rows."""
    held_out: Any = recipe.held_out
    adds = isinstance(energy, RowEnergy) and recipe.energy == recipe.objective == "auto"
    if adds and held_out:
        rows, held_out = split_rows(rows, held_out, generator)
    objective = _objective(energy, num_states, recipe.objective)
    optimizer = recipe.optimizer or (
        lambda parameters: torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, weight_decay=_WEIGHT_DECAY
        )
    )
    learned: Energy = energy
    if isinstance(energy, GivenEnergy) and not energy.joint:
        native = not isinstance(objective, RowLikelihood)
        if native:
            learned, rows = energy.energy, energy.configurations(rows)
    steps = recipe.num_steps
    trained = fit(
        learned,
        rows,
        objective,
        num_steps=steps,
        batch_size=recipe.batch_size,
        optimizer=optimizer,
        scheduler=lambda made: torch.optim.lr_scheduler.CosineAnnealingLR(made, steps),
        held_out=held_out,
        patience=recipe.patience if recipe.held_out else None,
        gradient_clip=10.0,
        disable_progbar=True,
    )
    if not (isinstance(energy, RowEnergy) and isinstance(held_out, Tensor)):
        return LearnedRows(trained, False)
    gained, error = _gained(energy, held_out, generator)
    if gained > error:
        return LearnedRows(trained, False)
    energy.forget()
    why = (
        f"{trained.why}; rows held out gained {gained:.2g} ± {error:.2g} nats by the net, which "
        "was taken back: the energy is that of the mixture"
    )
    return LearnedRows(trained._replace(why=why, log_z=0.0, log_z_error=0.0), True)


def _gained(energy: RowEnergy, rows: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """By how much rows [n, dim] are likelier with the net than by the mixture, in nats a row, with
    its standard error."""
    with torch.no_grad():
        of_rows = -energy.net(rows).squeeze(-1).double()
        of_base = -energy.net(energy.base.sample(_DRAWS, generator)).squeeze(-1).double()
    log_z = float(log_mean_exp(of_base))
    if not (math.isfinite(log_z) and bool(of_rows.isfinite().all())):
        return -math.inf, 0.0
    error = float(of_rows.std()) / math.sqrt(len(rows)) if len(rows) > 1 else math.inf
    return float(of_rows.mean()) - log_z, math.hypot(error, standard_error(of_base))


def _objective(energy: Energy, num_states: Sequence[int], given: Any) -> Objective:
    """The objective, as one that knows which coordinates are states.

    :raises TypeError: none, or one that would take states for real numbers.
    """
    discrete = any(num_states)
    base = energy.base if isinstance(energy, RowEnergy) else None
    states = tuple(num_states)
    if given == "auto":
        if base is not None:
            return NoiseContrastive(noise=RowNoise(base.around()), ratio=_NOISE_RATIO)
        assert isinstance(energy, GivenEnergy)
        if not energy.joint and knows_log_z(energy.energy):
            return ExactLikelihood()
        return RowLikelihood(states)
    if not isinstance(given, Objective):
        raise TypeError(
            'expected objective to be "auto" or an objective such as '
            f"PersistentContrastiveDivergence(), got {type(given).__name__}."
        )
    if isinstance(given, NoiseContrastive) and base is not None and given.noise == "auto":
        return NoiseContrastive(noise=RowNoise(base.around()), ratio=given.ratio)
    of_states = isinstance(energy, GivenEnergy) and energy.states is not None
    if not discrete or of_states or isinstance(given, NoiseContrastive | RowLikelihood):
        return given
    if isinstance(given, PersistentContrastiveDivergence) and given.sampler == "auto":
        number = given.buffer_size or given.num_chains or 256
        return RowLikelihood(states, base, number, given.steps, given.restart)
    raise TypeError(
        f"expected an objective for columns of states, got {type(given).__name__}, which takes all "
        'coordinates for real numbers. Use "auto", NoiseContrastive or '
        "PersistentContrastiveDivergence."
    )
