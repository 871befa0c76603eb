"""What a Target runs: a program that turns one flat position into the terms of a log density.

A Pyro model becomes a program through one messenger. A latent site takes its slice of the position
through the bijection of its support, *rebuilt at every run*, since a support may depend on another
latent; the log determinant of that map is added. A name among the side values takes that value.
Discrete sites that can be enumerated are summed out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import config_enumerate
from torch import Tensor
from torch.distributions import Transform

from pyro_ebm.normalizers.enumerated import FactorEvents

from .enumeration import ParallelEnumeration, is_subsample, marginal_log_density
from .layout import Site
from .substitute import HoldDiscrete, Substitute

# Enumerated sites are laid out so far to the left that no event of a user's can reach them.
_ROOM_FOR_EVENTS = 8


class Side(NamedTuple):
    """Values beside the position that the kernel does not move.

    ``beta`` is an inverse temperature on the likelihood (everything but the priors of the latent
    sites); ``values`` replaces sites by name. Batched, both carry the chains on their first axis.
    """

    beta: Tensor | None = None
    values: Mapping[str, Tensor] = {}


NO_SIDE = Side()


class Terms(NamedTuple):
    """One run of a program at one position.

    ``log_density`` is log p(constrained) + log |Jacobian|. The dictionaries are keyed by site.
    """

    log_density: Tensor
    latents: dict[str, Tensor]
    deterministics: dict[str, Tensor]
    log_prior: dict[str, Tensor]
    log_likelihood: dict[str, Tensor]
    energies: dict[str, Tensor]


@runtime_checkable
class Program(Protocol):
    """One position in, the terms of the log density out; ``sites`` lays the position out."""

    sites: tuple[Site, ...]

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms at one position of shape [dim]."""
        ...


class ModelProgram:
    """A Pyro model with its arguments, as a program over flat positions."""

    def __init__(
        self,
        model: Callable,
        args: tuple,
        kwargs: Mapping[str, Any],
        *,
        transforms: Mapping[str, Transform] | None = None,
        max_plate_nesting: int | None = None,
    ) -> None:
        self.args, self.kwargs = args, dict(kwargs)
        self.transforms = dict(transforms or {})
        self.user_model = model
        self.first_enum_dim = None
        self.model = model
        # Where a factor's event ends must not change when enumerated sites lengthen its values.
        self._factor_events = FactorEvents()
        first, held = self.lay_out()
        self.sites = tuple(first.laid_out.values())
        self._by_name = {site.name: site for site in self.sites}
        unknown = set(self.transforms) - set(self._by_name)
        if unknown:
            raise ValueError(
                f"transforms= names {sorted(unknown)}, but the latent sites of the model are "
                f"{sorted(self._by_name)}."
            )
        self.marginalised = tuple(held.discrete)
        if self.marginalised:
            self.model = config_enumerate(model, default="parallel")
            nesting = max(held.nesting, max_plate_nesting or 0)
            self.first_enum_dim = -1 - nesting - _ROOM_FOR_EVENTS
        _, self.first_trace = self.execute(torch.cat([*first.chosen, torch.zeros(0)]), NO_SIDE)

    def lay_out(
        self, choose: Callable[[dict], Tensor] | None = None
    ) -> tuple[Substitute, HoldDiscrete]:
        """Run the model without a position, with discrete sites held, to learn its layout.

        :param choose: gives the unconstrained value of a site; the origin unless given.
        """
        held = HoldDiscrete()
        substitute = Substitute(None, None, {}, transforms=self.transforms, choose=choose)
        outer = self._factor_events
        with pyro.validation_enabled(False), poutine.block(), outer, substitute, held:
            self.user_model(*self.args, **self.kwargs)
        return substitute, held

    def execute(self, position: Tensor, side: Side) -> tuple[Substitute, poutine.Trace]:
        """Run the model once at a position, hidden from every handler outside."""
        substitute = Substitute(
            position,
            self._by_name,
            side.values,
            transforms=self.transforms,
            enumerating=self.first_enum_dim is not None,
        )
        with contextlib.ExitStack() as handlers:
            handlers.enter_context(pyro.validation_enabled(False))
            handlers.enter_context(poutine.block())
            handlers.enter_context(self._factor_events)
            handlers.enter_context(substitute)
            if self.first_enum_dim is not None:
                handlers.enter_context(ParallelEnumeration(self.first_enum_dim))
            trace = poutine.trace(self.model).get_trace(*self.args, **self.kwargs)
        return substitute, trace

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms of the model's log joint density at one position of shape [dim]."""
        substitute, trace = self.execute(position, side)
        with pyro.validation_enabled(False):
            return self._terms(substitute, trace, side, position)

    def _terms(
        self, substitute: Substitute, trace: poutine.Trace, side: Side, position: Tensor
    ) -> Terms:
        terms = Terms(torch.zeros(()), {}, {}, {}, {}, {})
        nodes: dict[str, Any] = dict(trace.nodes)
        for name, node in nodes.items():
            if node["type"] != "sample" or is_subsample(node):
                continue
            if node["infer"].get("_deterministic"):
                terms.deterministics[name] = node["value"]
                continue
            log_prob = node["fn"].log_prob(node["value"], *node["args"], **node["kwargs"])
            log_prob = scale_and_mask(log_prob, node["scale"], node["mask"])
            energy = energy_of(node)
            if energy is not None:
                terms.energies[name] = energy
            if name in substitute.laid_out:
                terms.latents[name] = node["value"]
            (terms.log_likelihood if node["is_observed"] else terms.log_prior)[name] = log_prob
        missing = set(self._by_name) - set(terms.latents)
        if missing:
            raise ValueError(
                f"The model did not meet its latent sites {sorted(missing)} at this position. "
                "A model whose sites depend on the values of other sites has no fixed dimension."
            )
        return terms._replace(log_density=self._total(trace, terms, side, substitute, position))

    def _total(
        self,
        trace: poutine.Trace,
        terms: Terms,
        side: Side,
        substitute: Substitute,
        position: Tensor,
    ) -> Tensor:
        likelihood = terms.log_likelihood
        if side.beta is not None:
            likelihood = {name: side.beta * value for name, value in likelihood.items()}
        log_factors = {**terms.log_prior, **likelihood}
        total = position.new_zeros(())
        if self.marginalised:
            trace.symbolize_dims()
            total = total + marginal_log_density(trace, log_factors)
        else:
            for log_factor in log_factors.values():
                total = total + torch.as_tensor(log_factor).sum()
        for log_det in substitute.log_det:
            total = total + log_det
        return total


def energy_of(node: Mapping[str, Any]) -> Tensor | None:
    """E(x) of an energy site or factor of a trace, None for every other site."""
    fn: Any = node["fn"]
    while not hasattr(fn, "energy_value"):
        if not hasattr(fn, "base_dist"):
            return None
        fn = fn.base_dist
    energy: Any = fn.energy_value
    value: Any = energy(node["value"]) if callable(energy) else energy
    return value
