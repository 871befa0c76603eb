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
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Transform

from pyro_ebm.normalizers.enumerated import FactorEvents

from .enumeration import ParallelEnumeration, is_subsample, marginal_log_density
from .layout import Site, bijection, take, vectorised_plates

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


class Substitute(Messenger):
    """Give every continuous latent site the value that the flat position holds for it.

    Without a layout it lays the sites out as it meets them, at the unconstrained origin.
    """

    def __init__(
        self,
        position: Tensor | None,
        sites: Mapping[str, Site] | None,
        side: Side,
        *,
        transforms: Mapping[str, Transform],
        choose: Callable[[dict], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.position = position
        self.known = sites
        self.side = side
        self.transforms = transforms
        self.choose = choose
        self.laid_out: dict[str, Site] = {}
        self.chosen: list[Tensor] = []
        self.log_det: list[Tensor] = []

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        if name in self.side.values:
            msg["value"] = self.side.values[name]
            msg["done"] = True
            return
        if msg["done"] or msg["is_observed"] or msg["value"] is not None:
            return
        fn = msg["fn"]
        if name in self.transforms:
            transform = self.transforms[name].inv
        else:
            transform = bijection(fn.support, name)
        unconstrained = self._unconstrained(msg, transform)
        value = transform(unconstrained)
        self.log_det.append(transform.log_abs_det_jacobian(unconstrained, value).sum())
        msg["value"] = value
        msg["done"] = True

    def _unconstrained(self, msg: Any, transform: Transform) -> Tensor:
        name, fn = msg["name"], msg["fn"]
        if self.known is not None:
            if name not in self.known:
                raise ValueError(
                    f"The model met the latent site '{name}' that it did not have at its first "
                    "run. A model whose sites depend on the values of other sites has no fixed "
                    "dimension; write it with a fixed set of sites."
                )
            assert self.position is not None
            site = self.known[name]
            if tuple(fn.shape()) != tuple(site.shape):
                raise ValueError(
                    f"Site '{name}' had shape {tuple(site.shape)} at the first run and "
                    f"{tuple(fn.shape())} now. Shapes must not depend on the values of sites."
                )
            self.laid_out[name] = site
            return take(site, self.position)
        shape = transform.inverse_shape(fn.shape())
        offset = sum(site.size for site in self.laid_out.values())
        self.laid_out[name] = Site(
            name,
            offset,
            torch.Size(shape),
            torch.Size(fn.shape()),
            fn.event_dim,
            vectorised_plates(msg["cond_indep_stack"]),
        )
        if self.choose is None:
            unconstrained = torch.zeros(shape)
        else:
            unconstrained = self.choose({**msg, "transform": transform})
        self.chosen.append(unconstrained.reshape(-1))
        return unconstrained


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
        with self._factor_events:
            discrete, nesting = _discrete_sites(model, args, self.kwargs)
        if discrete:
            self.model = config_enumerate(model, default="parallel")
            nesting = max(nesting, max_plate_nesting or 0)
            self.first_enum_dim = -1 - nesting - _ROOM_FOR_EVENTS
        self.marginalised = discrete
        messenger, trace = self.execute(None, None, Side())
        self.sites = tuple(messenger.laid_out.values())
        self._by_name = {site.name: site for site in self.sites}
        unknown = set(self.transforms) - set(self._by_name)
        if unknown:
            raise ValueError(
                f"transforms= names {sorted(unknown)}, but the latent sites of the model are "
                f"{sorted(self._by_name)}."
            )
        self.first_trace = trace

    def execute(
        self,
        position: Tensor | None,
        sites: Mapping[str, Site] | None,
        side: Side,
        choose: Callable[[dict], Tensor] | None = None,
    ) -> tuple[Substitute, poutine.Trace]:
        """Run the model once under the messenger, hidden from every handler outside."""
        substitute = Substitute(position, sites, side, transforms=self.transforms, choose=choose)
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
        substitute, trace = self.execute(position, self._by_name, side)
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


def _discrete_sites(
    model: Callable, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[tuple[str, ...], int]:
    """The latent sites that enumeration sums out, and how deep the plates nest."""
    discrete: list[str] = []
    nesting = 0

    class Look(Messenger):
        def _pyro_sample(self, msg: Any) -> None:
            nonlocal nesting
            for plate in vectorised_plates(msg["cond_indep_stack"]):
                nesting = max(nesting, -plate.dim)
            if msg["is_observed"] or msg["value"] is not None or is_subsample(msg):
                return
            fn = msg["fn"]
            if fn.has_enumerate_support and fn.support.is_discrete:
                discrete.append(msg["name"])
                msg["value"] = fn.enumerate_support(expand=False)[0].expand(fn.shape())
                msg["done"] = True

    look = Look()
    substitute = Substitute(None, None, Side(), transforms={})
    with pyro.validation_enabled(False), poutine.block(), substitute, look:
        model(*args, **kwargs)
    return tuple(discrete), nesting
