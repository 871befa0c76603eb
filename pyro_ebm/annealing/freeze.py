"""What may be annealed, as a Target: the joint density of a model, or exp(-E/T) of an energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import Energy, as_energy
from pyro_ebm.mcmc.api import NUTS
from pyro_ebm.target import Target
from pyro_ebm.target.discrete import is_discrete


def as_target(model: Any, args: tuple, kwargs: Mapping[str, Any]) -> Target:
    """Freeze a model, an EnergyDistribution, an Energy or a Target.

    An EnergyDistribution stands for exp(-E/T) whether its normaliser is known or not.

    :raises TypeError: nothing of these, or arguments for what takes none.
    """
    if isinstance(model, Energy) and is_discrete(model.support) and not (args or kwargs):
        return Target.from_energy(model)
    if isinstance(model, Target) and model.num_states is not None and not (args or kwargs):
        return model
    if not isinstance(model, EnergyDistribution) or args or kwargs:
        return NUTS(model).marginal_target(args, kwargs)
    if not model.batch_shape and not model.params:
        return Target.from_energy(model.energy, temperature=model.temperature)
    batch = len(model.batch_shape)

    def energy(x: Tensor) -> Tensor:
        return -model.unnormalized_log_prob(x).sum()

    support = constraints.independent(model.support, batch) if batch else model.support
    shape = model.batch_shape + model.event_shape
    return Target.from_energy(as_energy(energy, event_shape=shape, support=support))
