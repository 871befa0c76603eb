"""Programs that are not Pyro models: a bare energy, and a potential function in Pyro's sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.distributions import ImproperUniform
from torch import Tensor
from torch.distributions import Transform, constraints, identity_transform

from pyro_ebm.energies import Energy, evaluate
from pyro_ebm.normalizers import like_of
from pyro_ebm.shapes import unconstrained_shape

from .layout import Site, bijection, joined, split
from .program import Choose, Terms
from .side import Side, refuse_side_values


class EnergyProgram:
    """The Gibbs density exp(-E(x)/T) of a bare energy; its one site is called ``x``."""

    def __init__(self, energy: Energy, temperature: Tensor) -> None:
        like = like_of(energy)
        self.energy, self.temperature = energy, temperature.to(like)
        shape = torch.Size(energy.event_shape)
        unconstrained = unconstrained_shape(bijection(energy.support, "x"), shape)
        self.sites = (Site("x", 0, unconstrained, shape, len(shape), (), like.dtype, like.device),)

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms at one position: -E(x)/T and the log Jacobian of the support's bijection."""
        refuse_side_values(side, (), latents=("x",))
        transform = bijection(self.energy.support, "x")
        unconstrained = split(self.sites, position)["x"]
        x: Any = transform(unconstrained)
        energy = evaluate(self.energy, x)
        log_density = -energy / self.temperature
        tempered = log_density if side.beta is None else side.beta * log_density
        log_det = transform.log_abs_det_jacobian(unconstrained, x).sum()
        return Terms(tempered, {"x": x}, {}, {}, {"x": log_density}, {"x": energy}, log_det)

    def start(self, choose: Choose) -> Tensor:
        """One flat position with the unconstrained value that is chosen for ``x``."""
        transform = bijection(self.energy.support, "x")
        return joined([_chosen(self.sites[0], transform, choose)])


class PotentialProgram:
    """Pyro's ``potential_fn``: minus the log density of a dictionary of unconstrained tensors."""

    def __init__(
        self,
        potential_fn: Callable[[dict[str, Tensor]], Tensor],
        example: Mapping[str, Tensor],
        transforms: Mapping[str, Transform],
    ) -> None:
        self.potential_fn, self.transforms = potential_fn, dict(transforms)
        sites: list[Site] = []
        offset = 0
        for name, value in example.items():
            like, shape = like_of(value), value.shape
            outer = torch.Size(self._map(name).forward_shape(shape))
            sites.append(Site(name, offset, shape, outer, len(outer), (), like.dtype, like.device))
            offset += sites[-1].size
        self.sites = tuple(sites)

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms at one position: minus the potential."""
        unconstrained = split(self.sites, position)
        refuse_side_values(side, (), latents=unconstrained)
        log_density = -self.potential_fn(unconstrained)
        if log_density.dim() > 0:
            raise ValueError(
                "potential_fn must return one number for a dictionary of unconstrained tensors; "
                f"got shape {tuple(log_density.shape)}. Sum over its entries."
            )
        latents: dict[str, Any] = {
            name: self._map(name)(value) for name, value in unconstrained.items()
        }
        if side.beta is not None:
            log_density = side.beta * log_density
        # What the maps add, if anything, the potential holds already: it cannot be told apart.
        return Terms(log_density, latents, {}, {}, {}, {}, torch.zeros_like(log_density))

    def start(self, choose: Choose) -> Tensor:
        """One flat position with the unconstrained value that is chosen for every site."""
        return joined(_chosen(site, self._map(site.name), choose) for site in self.sites)

    def _map(self, name: str) -> Transform:
        """From unconstrained space onto the support of a site."""
        return self.transforms[name].inv if name in self.transforms else identity_transform


def _chosen(site: Site, transform: Transform, choose: Choose) -> Tensor:
    """What is chosen for a site that no model declares."""
    support: Any = transform.codomain
    lacking = len(site.shape) - support.event_dim
    support = constraints.independent(support, lacking) if lacking else support
    declared = {
        "type": "sample",
        "name": site.name,
        "fn": ImproperUniform(support, (), site.shape),
        "transform": transform,
        "value": None,
        "is_observed": False,
        "done": False,
        "infer": {},
        "args": (),
        "kwargs": {},
        "scale": 1.0,
        "mask": None,
        "cond_indep_stack": (),
    }
    return choose(declared).to(dtype=site.dtype, device=site.device)
