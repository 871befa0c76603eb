"""What a Target runs: a program that turns one flat position into the terms of a log density.

A Pyro model becomes a program through one messenger. A latent site takes its slice of the position
through the bijection of its support, *rebuilt at every run*, since a support may depend on another
latent; the log determinant of that map is added. A name among the side values takes that value.
Discrete sites are summed out, or sampled: then their states have coordinates of their own, behind
all continuous ones. Sites whose value others determine (deltas, what is left of a reparametrised
site, ``pyro.deterministic``) are neither latent nor data. Masked elements of latent sites that
nothing weighs keep their own prior (:mod:`.masked`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import config_enumerate
from pyro.poutine.util import site_is_factor
from torch import Tensor
from torch.distributions import Independent, Transform

from pyro_ebm.normalizers.enumerated import FactorEvents

from .dependence import dependencies
from .determined import find_determined
from .enumeration import ParallelEnumeration, is_subsample, marginal_log_density
from .layout import Site, joined, split
from .masked import Glimpse, find_unweighed, is_masked, own_density
from .ranges import check_range
from .side import NO_SIDE, Side, refuse_side_values
from .substitute import HoldDiscrete, Substitute

# Enumerated sites are laid out so far to the left that no event of a user's can reach them.
ROOM_FOR_EVENTS = 8

# Before the name of a site in the names of its entries that are log |Jacobian|.
LOG_DET = "log |Jacobian| of "


# Gives the unconstrained value of a site, as Pyro's messengers see it, with its transform beside.
Choose = Callable[[dict[str, Any]], Tensor]


class Terms(NamedTuple):
    """One run of a program at one position.

    ``log_joint`` is log p(constrained), ``log_det`` is log |Jacobian|. The dictionaries are keyed
    by site.
    """

    log_joint: Tensor
    latents: dict[str, Tensor]
    deterministics: dict[str, Tensor]
    log_prior: dict[str, Tensor]
    log_likelihood: dict[str, Tensor]
    energies: dict[str, Tensor]
    log_det: Tensor

    @property
    def log_density(self) -> Tensor:
        """The log density of the unconstrained position: log p(constrained) + log |Jacobian|."""
        return self.log_joint + self.log_det


@runtime_checkable
class Program(Protocol):
    """One position in, the terms of the log density out; ``sites`` lays the position out."""

    sites: tuple[Site, ...]

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms at one position of shape [dim]."""
        ...

    def start(self, choose: Choose) -> Tensor:
        """One flat position with the unconstrained value that is chosen for every site.

        :param choose: takes a site as Pyro's messengers see it, with its ``transform`` beside.
        """
        ...


class ModelProgram:
    """A Pyro model with its arguments, as a program over flat positions.

    :param sampled: the discrete sites that are not summed out.
    """

    def __init__(
        self,
        model: Callable,
        args: tuple,
        kwargs: Mapping[str, Any],
        *,
        transforms: Mapping[str, Transform] | None = None,
        max_plate_nesting: int | None = None,
        sampled: Collection[str] = (),
    ) -> None:
        self.args, self.kwargs = args, dict(kwargs)
        self.transforms = dict(transforms or {})
        self.user_model = model
        self.first_enum_dim = None
        self.model = model
        # Where a factor's event ends must not change when enumerated sites lengthen its values.
        self._factor_events = FactorEvents()
        first, held = self.lay_out()
        self.continuous = tuple(first.laid_out.values())
        self.sampled = tuple(name for name in held.discrete if name in sampled)
        self.sites = self.continuous + _placed(self.continuous, held, self.sampled)
        self._by_name = {site.name: site for site in self.sites}
        unknown = set(self.transforms) - set(first.laid_out)
        if unknown:
            raise ValueError(
                f"transforms= names {sorted(unknown)}, but the latent sites of the model are "
                f"{sorted(first.laid_out)}."
            )
        self.first_states = held.discrete
        self.marginalised = tuple(name for name in held.discrete if name not in sampled)
        if self.marginalised:
            self.model = config_enumerate(model, default="parallel")
            nesting = max(held.nesting, max_plate_nesting or 0)
            self.first_enum_dim = -1 - nesting - ROOM_FOR_EVENTS
        self._first_parts = first.chosen
        for site in self.sites[len(self.continuous) :]:
            self._first_parts[site.name] = torch.zeros(
                site.unconstrained_shape, dtype=site.dtype, device=site.device
            )
        _, self.first_trace = self.execute(self._first_parts, NO_SIDE)
        met = cast(Mapping[str, Any], self.first_trace.nodes)
        nodes = {
            name: node
            for name, node in met.items()
            if node["type"] == "sample" and not is_subsample(node)
        }
        self._check_met(nodes)
        for name in first.laid_out:
            if name not in self.transforms:
                check_range(name, nodes[name]["fn"])
        self._unweighed: dict[str, Tensor] = {}
        self.determined, self._weighing = find_determined(nodes, self.dependencies)
        masked = [site for site in self.continuous if is_masked(nodes[site.name])]
        self._unweighed = find_unweighed(masked, joined(self._first_parts.values()), self._look)
        observed = [
            name
            for name, node in nodes.items()
            if node["is_observed"] and name not in self.determined and not site_is_factor(node)
        ]
        self.replaceable = (*held.discrete, *observed)

    def dependencies(
        self, names: Iterable[str], read: Callable[[Any], Tensor], *, mapped: bool = True
    ) -> dict[str, frozenset[str]]:
        """The latent and discrete sites that a tensor at each of some sites depends on.

        :param read: takes that tensor out of a site of a trace.
        :param mapped: as in :func:`.dependence.dependencies`.
        """

        def run(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            states = {name: values[name] for name in self.first_states}
            _, trace = self.execute(values, Side(values=states))
            return {name: torch.as_tensor(read(trace.nodes[name])) for name in names}

        return dependencies(run, {**self._first_parts, **self.first_states}, mapped=mapped)

    def start(self, choose: Choose) -> Tensor:
        """One flat position with the unconstrained value that is chosen for every continuous site.

        The coordinates of sampled sites are not in it.
        """
        return joined(self.lay_out(choose)[0].chosen.values())

    def lay_out(self, choose: Choose | None = None) -> tuple[Substitute, HoldDiscrete]:
        """Run the model without a position, with discrete sites held, to learn its layout.

        :param choose: gives the unconstrained value of a site; the origin unless given.
        """
        held = HoldDiscrete()
        substitute = Substitute(None, None, {}, transforms=self.transforms, choose=choose)
        outer = self._factor_events
        with pyro.validation_enabled(False), poutine.block(), outer, substitute, held:
            self.user_model(*self.args, **self.kwargs)
        return substitute, held

    def execute(self, parts: Mapping[str, Tensor], side: Side) -> tuple[Substitute, poutine.Trace]:
        """Run the model once, hidden from every handler outside.

        :param parts: the unconstrained value of every latent site.
        """
        values = dict(side.values)
        for name in self.sampled:
            if name not in values:
                values[name] = self._by_name[name].value_of(parts[name])
        substitute = Substitute(
            parts,
            self._by_name,
            values,
            transforms=self.transforms,
            enumerating=self.first_enum_dim is not None,
        )
        with contextlib.ExitStack() as handlers:
            handlers.enter_context(pyro.validation_enabled(False))
            handlers.enter_context(poutine.block())
            handlers.enter_context(self._factor_events)
            handlers.enter_context(substitute)
            if self.first_enum_dim is not None:
                # A factor would take a dimension that a given value does not have for its event's.
                held = {*self.sampled, *values}
                handlers.enter_context(ParallelEnumeration(self.first_enum_dim, held=held))
            trace = poutine.trace(self.model).get_trace(*self.args, **self.kwargs)
        return substitute, trace

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms of the model's log joint density at one position of shape [dim]."""
        refuse_side_values(side, self.replaceable, latents=self._by_name)
        substitute, trace = self.execute(split(self.sites, position), side)
        with pyro.validation_enabled(False):
            return self._terms(substitute, trace, side, position)

    def _terms(
        self, substitute: Substitute, trace: poutine.Trace, side: Side, position: Tensor
    ) -> Terms:
        parts = (each.sum() for each in substitute.log_det.values())
        log_det = sum(parts, start=position.new_zeros(()))
        terms = Terms(torch.zeros(()), {}, {}, {}, {}, {}, log_det)
        nodes: dict[str, Any] = dict(trace.nodes)
        for name, node in nodes.items():
            if node["type"] != "sample" or is_subsample(node):
                continue
            if name in self.determined:
                terms.deterministics[name] = node["value"]
            if not self.has_density(name):
                continue
            log_prob = self.log_factor(name, node)
            energy = energy_of(node)
            if energy is not None:
                terms.energies[name] = energy
            if name in self._by_name:
                terms.latents[name] = node["value"]
            is_data = node["is_observed"] and name not in self.determined
            (terms.log_likelihood if is_data else terms.log_prior)[name] = log_prob
        self._check_met(terms.latents)
        return terms._replace(log_joint=self._log_joint(trace, terms, side))

    def _check_met(self, names: Container[str]) -> None:
        missing = sorted(name for name in self._by_name if name not in names)
        if missing:
            raise ValueError(
                f"The model did not meet its latent sites {missing} at this position. A model "
                "whose sites depend on the values of other sites has no fixed dimension."
            )

    def has_density(self, name: str) -> bool:
        """Whether a sample site adds to the log density."""
        return name not in self.determined or name in self._weighing

    def entries(self, position: Tensor) -> dict[str, Tensor]:
        """By site the numbers whose sum is the log density, as single as they come: elements of
        vectors of independent numbers too.

        The log |Jacobian| of a site stands under :data:`LOG_DET` and its name: it is no constant
        where the support depends on a discrete site. Where sites are summed out there is one
        number for all.
        """
        return self.entries_of(split(self.sites, position), NO_SIDE)

    def entries_of(self, parts: Mapping[str, Tensor], side: Side) -> dict[str, Tensor]:
        """The same for unconstrained values by site."""
        substitute, trace = self.execute(parts, side)
        with pyro.validation_enabled(False):
            if self.marginalised:
                like = joined(parts.values())
                return {"": self._terms(substitute, trace, side, like).log_density}
            log_det = {LOG_DET + name: value for name, value in substitute.log_det.items()}
            return log_det | {
                name: self.single(name, node)
                for name, node in cast(Mapping[str, Any], trace.nodes).items()
                if node["type"] == "sample" and not is_subsample(node) and self.has_density(name)
            }

    def entry_parents(self) -> dict[str, frozenset[str]]:
        """By name of entries the latent and discrete sites that they depend on."""

        def run(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
            states = {name: values[name] for name in self.first_states}
            return self.entries_of(values, Side(values=states))

        return dependencies(run, {**self._first_parts, **self.first_states})

    def single(self, name: str, node: Any) -> Tensor:
        """The numbers that a sample site adds, see :meth:`entries`."""
        fn = node["fn"]
        if isinstance(fn, Independent) and node["mask"] is None and name not in self._unweighed:
            scale = torch.as_tensor(node["scale"])
            if scale.dim():
                scale = scale.reshape((*scale.shape, *[1] * fn.reinterpreted_batch_ndims))
            node = {**node, "fn": fn.base_dist, "scale": scale}
        return self.log_factor(name, node)

    def log_factor(self, name: str, node: Any) -> Tensor:
        """What a sample site adds to the log density: scaled and masked, enumerated axes in place.

        Masked elements that nothing weighs add their own prior.
        """
        log_prob = node["fn"].log_prob(node["value"], *node["args"], **node["kwargs"])
        log_prob = scale_and_mask(log_prob, node["scale"], node["mask"])
        if name not in self._unweighed:
            return log_prob
        return log_prob + own_density(node, self._unweighed[name])

    def _look(self, position: Tensor) -> Glimpse:
        substitute, trace = self.execute(split(self.sites, position), NO_SIDE)
        with pyro.validation_enabled(False):
            log_density = self._terms(substitute, trace, NO_SIDE, position).log_density
        log_det = {name: value.sum() for name, value in substitute.log_det.items()}
        return Glimpse(log_density, log_det, cast(Mapping[str, Any], trace.nodes))

    def random_states(self, num_points: int, generator: torch.Generator, like: Tensor) -> Tensor:
        """Coordinates [units, points] of the sampled sites, every unit in a uniform state."""
        parts = [
            torch.randint(
                len(site.states),
                (site.size, num_points),
                generator=generator,
                device=generator.device,
            ).to(like)
            for site in self.sites[len(self.continuous) :]
            if site.states is not None
        ]
        return torch.cat([like.new_zeros(0, num_points), *parts])

    def _log_joint(self, trace: poutine.Trace, terms: Terms, side: Side) -> Tensor:
        likelihood = terms.log_likelihood
        if side.beta is not None:
            likelihood = {name: side.beta * value for name, value in likelihood.items()}
        log_factors = {**terms.log_prior, **likelihood}
        total = terms.log_det.new_zeros(())
        if self.marginalised:
            trace.symbolize_dims()
            total = total + marginal_log_density(trace, log_factors)
        else:
            for log_factor in log_factors.values():
                total = total + torch.as_tensor(log_factor).sum()
        return total


def _placed(before: tuple[Site, ...], held: HoldDiscrete, names: Iterable[str]) -> tuple[Site, ...]:
    """Discrete sites with their coordinates behind those of others."""
    offset = sum(site.size for site in before)
    placed = []
    for name in names:
        placed.append(held.found[name]._replace(offset=offset))
        offset += placed[-1].size
    return tuple(placed)


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
