"""What is minimised: an energy, or minus the log joint density of a model, over flat positions.

The search moves in unconstrained coordinates, where there are no bounds to run into, and the
objective is the density of the constrained values, *without* the Jacobian of the bijection: the
mode is that of the model as it is written. (The mode of the unconstrained density is another point:
for x ~ Gamma(3, 1) that of log x lies at x = 3, that of x at 2.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import Energy, clamp, evaluate
from pyro_ebm.energies.clamped import Clamped
from pyro_ebm.optimize.lbfgs import ValueAndGradient
from pyro_ebm.target import Side, Target
from pyro_ebm.target.arguments import check_arguments
from pyro_ebm.target.program import ModelProgram
from pyro_ebm.target.simple_programs import EnergyProgram
from pyro_ebm.target.vectorize import looped, traced, vectorized

_EFFECT_SEED = 22


class Problem:
    """A target with its objective, and the way back from flat positions to what the user knows.

    ``bare``: its one variable ``x`` is given and returned as a tensor, not as a dictionary.
    ``clamped``: the energy with held coordinates that the target is of, if there are any.
    """

    def __init__(self, target: Target, *, bare: bool, clamped: Clamped | None = None) -> None:
        self.target, self.bare, self.clamped = target, bare, clamped

    def value_and_gradient(self, num_runs: int) -> ValueAndGradient:
        """The objective [runs] and its gradient [dim, runs] at positions [dim, runs]."""
        target = self.target
        is_energy = isinstance(target.program, EnergyProgram)

        def objective(position: Tensor, side: Side) -> Tensor:
            terms = target.program.run(position, side)
            return terms.energies["x"] if is_energy else -terms.log_joint

        batched = (vectorized if target.vectorized else looped)(objective)
        if target.vectorized:
            example = torch.zeros(target.dim, num_runs, dtype=target.dtype, device=target.device)
            batched = traced(batched, example, Side())
        return lambda positions: batched(positions, Side())

    def effect(self, positions: Tensor) -> Tensor:
        """By coordinate how much the constrained values change with it, [dim, runs].

        One random projection of them stands for all.
        """
        target = self.target
        generator = torch.Generator().manual_seed(_EFFECT_SEED)
        size = sum(site.shape.numel() for site in target.sites)
        weights = torch.randn(
            size, generator=generator, dtype=target.dtype, device=generator.device
        ).to(target.device)

        def projection(position: Tensor, side: Side) -> Tensor:
            latents = target.program.run(position, side).latents
            parts = [latents[site.name].reshape(-1).to(weights) for site in target.sites]
            return weights @ torch.cat(parts)

        batched = (vectorized if target.vectorized else looped)(projection)
        return batched(positions, Side())[1].abs()

    def values(self, positions: Tensor) -> dict[str, Tensor]:
        """The constrained values [runs, *shape] of every latent site."""
        latents = self.target.evaluate(positions.T).latents
        return {site.name: latents[site.name] for site in self.target.sites}

    def features(self, values: dict[str, Tensor]) -> Tensor:
        """What tells constrained values apart, [number, runs]: themselves, or what the energy says
        that its symmetries leave alone."""
        program = self.target.program
        if isinstance(program, EnergyProgram):
            invariants = program.energy.invariants(values["x"])
            if invariants is not None:
                return invariants.T
        return torch.cat([value.reshape(len(value), -1) for value in values.values()], dim=1).T

    def whole(self, values: dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Constrained values as the user knows them: held coordinates in their place."""
        if not self.bare:
            return values
        x = values["x"]
        return x if self.clamped is None else self.clamped.merge(x)


def problem_of(
    energy_or_model: Any, args: tuple, kwargs: Mapping[str, Any], *, observed: Any
) -> Problem:
    """Freeze what is to be minimised.

    Raises:
        TypeError: neither a model nor an energy; model arguments for an energy; ``observed`` of
            another form.
        ValueError: ``observed`` names no site of the model; what Target and clamp raise.
    """
    bare = isinstance(energy_or_model, Target | Energy) or hasattr(energy_or_model, "log_prob")
    if not bare and not callable(energy_or_model):
        raise TypeError(
            "expected a Pyro model, an EnergyDistribution, an Energy or a Target, got "
            f"{type(energy_or_model).__name__}."
        )
    energy = _energy_of(energy_or_model)
    name = type(energy_or_model).__name__
    if not bare:
        return _model_problem(energy_or_model, args, kwargs, observed)
    if args or kwargs:
        raise TypeError(
            f"expected no model arguments for a {name}, got {len(args)} positional ones and "
            f"{sorted(kwargs)}. Leave them out."
        )
    if energy is not None:
        return _energy_problem(energy, observed)
    if observed is not None:
        raise TypeError(
            f"expected observed=None for a {name}, got {type(observed).__name__}. Give the energy "
            "itself, or a Pyro model."
        )
    if isinstance(energy_or_model, Target):
        program = energy_or_model.program
        return Problem(energy_or_model, bare=isinstance(program, EnergyProgram))
    return Problem(Target.from_distribution(energy_or_model), bare=True)


def _energy_of(thing: Any) -> Energy | None:
    """The bare energy behind an Energy or an EnergyDistribution, None for all else."""
    if isinstance(thing, Energy):
        return thing
    if not isinstance(thing, EnergyDistribution):
        return None
    if thing.batch_shape:
        raise ValueError(
            f"expected an EnergyDistribution of batch shape (), got {tuple(thing.batch_shape)}: "
            "its elements do not meet. Minimise each by itself."
        )
    return _Given(thing.energy, thing.params) if thing.params else thing.energy


class _Given(Energy):
    """An energy at given params."""

    def __init__(self, energy: Energy, params: tuple) -> None:
        super().__init__(energy.event_shape, support=energy.support)
        self.energy, self.params = energy, params

    def forward(self, x: Tensor) -> Tensor:
        return evaluate(self.energy, x, self.params)


def _energy_problem(energy: Energy, observed: Any) -> Problem:
    if observed is None:
        return Problem(Target.from_energy(energy), bare=True)
    if isinstance(observed, Mapping):
        held = list(observed)
        if any(isinstance(key, str) for key in held):
            raise TypeError(
                "expected the coordinates of an energy that are observed: {index: value}, or a "
                f"pair (mask, values); sites are of models. Got {{{held[0]!r}: ...}}."
            )
        fixed = torch.stack([torch.as_tensor(observed[i]) for i in held]) if held else None
    elif isinstance(observed, tuple) and len(observed) == 2:
        held, fixed = observed
    else:
        held, fixed = None, None
    if fixed is None:
        raise TypeError(
            "expected observed to be a pair (held, values) as clamp() takes them, or {index: "
            f"value}}, got {observed!r}."
        )
    clamped = clamp(energy, held, fixed)
    return Problem(Target.from_energy(clamped), bare=True, clamped=clamped)


def _model_problem(model: Any, args: tuple, kwargs: Mapping[str, Any], observed: Any) -> Problem:
    check_arguments(model, args, kwargs)
    if observed is None:
        return Problem(Target.freeze(model, args, kwargs), bare=False)
    if not isinstance(observed, Mapping):
        raise TypeError(
            "expected observed to be a dictionary {site: value} for a Pyro model, got "
            f"{type(observed).__name__}."
        )
    values = {name: torch.as_tensor(value) for name, value in observed.items()}
    target = Target.freeze(pyro.condition(model, data=values), args, kwargs)
    assert isinstance(target.program, ModelProgram)
    met = target.program.first_trace.nodes
    unknown = sorted(name for name in values if name not in met)
    if unknown:
        raise ValueError(
            f"expected observed to name sites of the model, got {unknown}; the latent sites left "
            f"are {[site.name for site in target.sites]}."
        )
    return Problem(target, bare=False)
