"""Programs that are not Pyro models: a bare energy, and a potential function in Pyro's sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform

from pyro_ebm.energies import Energy, evaluate

from .layout import Site, bijection, take
from .program import Side, Terms


class EnergyProgram:
    """The Gibbs density exp(-E(x)/T) of a bare energy; its one site is called ``x``."""

    def __init__(self, energy: Energy, temperature: Tensor) -> None:
        self.energy, self.temperature = energy, temperature
        shape = torch.Size(energy.event_shape)
        unconstrained = bijection(energy.support, "x").inverse_shape(shape)
        self.sites = (Site("x", 0, torch.Size(unconstrained), shape, len(shape), ()),)

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms at one position: -E(x)/T and the log Jacobian of the support's bijection."""
        transform = bijection(self.energy.support, "x")
        unconstrained = take(self.sites[0], position)
        x: Any = transform(unconstrained)
        energy = evaluate(self.energy, x)
        log_density = -energy / self.temperature
        tempered = log_density if side.beta is None else side.beta * log_density
        log_det = transform.log_abs_det_jacobian(unconstrained, x).sum()
        return Terms(tempered + log_det, {"x": x}, {}, {}, {"x": log_density}, {"x": energy})


class PotentialProgram:
    """Pyro's ``potential_fn``: minus the log density of a dictionary of unconstrained tensors."""

    def __init__(
        self,
        potential_fn: Callable[[dict[str, Tensor]], Tensor],
        shapes: Mapping[str, torch.Size],
        transforms: Mapping[str, Transform],
    ) -> None:
        self.potential_fn, self.transforms = potential_fn, dict(transforms)
        sites: list[Site] = []
        offset = 0
        for name, shape in shapes.items():
            outer = self.transforms[name].inv.forward_shape(shape) if name in transforms else shape
            sites.append(Site(name, offset, torch.Size(shape), torch.Size(outer), len(outer), ()))
            offset += sites[-1].size
        self.sites = tuple(sites)

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms at one position: minus the potential."""
        unconstrained = {site.name: take(site, position) for site in self.sites}
        log_density = -self.potential_fn(unconstrained)
        if log_density.dim() > 0:
            raise ValueError(
                "potential_fn must return one number for a dictionary of unconstrained tensors; "
                f"got shape {tuple(log_density.shape)}. Sum over its entries."
            )
        latents: dict[str, Any] = {
            name: self.transforms[name].inv(value) if name in self.transforms else value
            for name, value in unconstrained.items()
        }
        if side.beta is not None:
            log_density = side.beta * log_density
        return Terms(log_density, latents, {}, {}, {}, {})
