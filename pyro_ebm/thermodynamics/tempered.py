"""An energy, or a model's minus log joint, at a temperature, as what is annealed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import Energy
from pyro_ebm.target import Target


def tempered(energy_or_model: Any) -> Callable[[float], Any]:
    """What gives exp(-E/T) for a temperature T.

    Of a Pyro model E is minus the log joint density, priors, likelihoods and factors: all of it is
    tempered. An EnergyDistribution stands for its energy, whatever temperature it has.

    :raises TypeError: a frozen target, or nothing with an energy.
    :raises ValueError: an EnergyDistribution of a batch, or with params.
    """
    if isinstance(energy_or_model, EnergyDistribution):
        if energy_or_model.params or energy_or_model.batch_shape:
            raise ValueError(
                "expected one energy, got an EnergyDistribution of a batch, or with params. Write "
                "the params into the energy."
            )
        energy_or_model = energy_or_model.energy
    if isinstance(energy_or_model, Energy):
        energy = energy_or_model
        return lambda temperature: EnergyDistribution(energy, temperature=temperature)
    if isinstance(energy_or_model, Target) or hasattr(energy_or_model, "log_prob"):
        raise TypeError(
            f"expected an energy, an EnergyDistribution or a Pyro model, got a "
            f"{type(energy_or_model).__name__}, whose temperature is fixed."
        )
    if not callable(energy_or_model):
        raise TypeError(
            f"expected an energy, an EnergyDistribution or a Pyro model, got {energy_or_model!r}."
        )
    model = energy_or_model
    return lambda temperature: poutine.scale(model, scale=1.0 / temperature)


def check_temperatures(temperatures: Any) -> torch.Tensor:
    """Temperatures [n] in float64, in the order given.

    :raises TypeError: no real numbers.
    :raises ValueError: none, or one that is not positive and finite.
    """
    try:
        values = torch.as_tensor(temperatures, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"expected temperatures to be a sequence of numbers, got {temperatures!r}."
        ) from error
    if values.dim() == 0:
        values = values[None]
    if values.dim() != 1 or not len(values):
        raise ValueError(f"expected temperatures [n], got shape {tuple(values.shape)}.")
    wrong = values[~((values > 0) & values.isfinite())]
    if len(wrong):
        raise ValueError(
            f"expected temperatures that are positive and finite, got {float(wrong[0])}."
        )
    return values
