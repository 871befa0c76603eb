"""Other data at an unnormalised site: log f(y; theta) for any y beside the position that has theta.

Samplers of doubly-intractable posteriors draw data y from the model at proposed parameters. Here an
observed energy site of a frozen model becomes a density over y, for every chain at its own theta.
Discrete data are numbers of states [units, chains]. A unit is drawn anew from

    p(y_i = k | rest) proportional to exp(conditionals[i, k]),

units that share no term of the energy together, as a block.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.energies import Energy, blocks_of
from pyro_ebm.energies.couplings import DenseCouplings
from pyro_ebm.energies.enumeration import digits
from pyro_ebm.normalizers import bare, finite_states

from .layout import Site, split
from .program import ModelProgram
from .side import NO_SIDE
from .target import Target
from .vectorize import traced


class AuxiliarySite:
    """One unnormalised observed site of a frozen model.

    Attributes: ``name``; ``observed`` [dim], the numbers of the states of the data; of its ``dim``
    units ``rows`` independent events have equally many; ``blocks`` [dim] the number of the block of
    each unit, ``num_blocks`` of them; ``num_configurations`` that an event can have.

    :param target: a frozen model whose log density leaves out the log Z of the site.
    :raises ValueError: data that do not have finitely many states.
    """

    def __init__(self, target: Target, name: str) -> None:
        program = target.described
        assert isinstance(program, ModelProgram)
        node: Any = program.first_trace.nodes[name]
        self.name, self._program, self._target = name, program, target
        fn = bare(node["fn"])
        self._batch, self._event = torch.Size(fn.batch_shape), torch.Size(fn.event_shape)
        value = self._expanded(torch.as_tensor(node["value"]).detach())
        self.rows = prod(self._batch)
        states = finite_states(fn)
        if states is None:
            raise ValueError(
                f"The data at {name!r} have no finite number of states ({fn.support}), and "
                "Exchange draws discrete data only. Give log_normalizer=, a function, from a "
                "closed form or from estimates of log Z at several parameters (AIS)."
            )
        self._site = Site(
            name,
            0,
            states.shape,
            torch.Size(fn.shape()),
            len(self._event),
            (),
            states.values.dtype,
            states.values.device,
            states.values,
        )
        self.states, self.num_states = states.values, len(states.values)
        self.observed = self._site.numbers_of(value).to(target.dtype)
        self.dim = len(self.observed)
        units = self.dim // self.rows
        self.num_configurations = float(self.num_states) ** units
        within = _blocks(fn, units)
        self.blocks = within.repeat(self.rows)
        self.num_blocks = int(within.max()) + 1
        self._recordings: dict[tuple, Callable] = {}

    def _expanded(self, value: Tensor) -> Tensor:
        try:
            return value.expand(self._batch + self._event)
        except RuntimeError:
            rows = tuple(value.shape[: value.dim() - len(self._event)])
            raise ValueError(
                f"The data at {self.name!r} have the shape {tuple(value.shape)}, where one event "
                f"has {tuple(self._event)} and the site has room for {tuple(self._batch)} of them. "
                f"Put the {rows} events into a plate: with pyro.plate(...) around the site."
            ) from None

    def values(self, y: Tensor) -> Tensor:
        """Data [*more, *shape] of numbers of states [*more, dim]."""
        return self._site.value_of(y.reshape(*y.shape[:-1], *self._site.unconstrained_shape))

    def at(self, position: Tensor) -> DataDensity:
        """log f(.; theta) of one chain, at its position [dim]."""
        parts = split(self._program.sites, position)
        _, trace = self._program.execute(parts, NO_SIDE)
        node: Any = trace.nodes[self.name]
        return DataDensity(self, bare(node["fn"]))

    def log_factor(self, positions: Tensor, y: Tensor) -> Tensor:
        """log f(y; theta) [chains], at positions [dim, chains] and data [dim_y, chains]."""
        return self.mapped(_log_factor, positions, y)

    def score(self, positions: Tensor, y: Tensor) -> Tensor:
        """The gradient of log f by the position [dim, chains]."""
        return self.mapped(_score, positions, y)

    def table(self, positions: Tensor) -> Tensor:
        """log f of every configuration of an event [configurations, rows, chains]."""
        return self.mapped(_table, positions)

    def listed(self, index: Tensor) -> Tensor:
        """Coordinates [dim, chains] of configurations by number [rows, chains]."""
        units = self.dim // self.rows
        found = digits(index.long(), self.num_states, units).movedim(-1, 1)
        return found.reshape(self.dim, -1).to(self.observed)

    def mapped(self, single: Callable[..., Tensor], *args: Tensor) -> Tensor:
        """A function of this site and one chain, over the last axis of its arguments, recorded.

        :param single: takes the site and of every argument what one chain has of it.
        """
        key = (single, *(tuple(arg.shape) for arg in args))
        if key not in self._recordings:

            def of_one(*parts: Tensor) -> Tensor:
                return single(self, *parts)

            def batched(*tensors: Tensor) -> Tensor:
                if self._target.vectorized:
                    return torch.func.vmap(of_one, in_dims=-1, out_dims=-1)(*tensors)
                chains = zip(*(tensor.unbind(-1) for tensor in tensors), strict=True)
                return torch.stack([of_one(*parts) for parts in chains], -1)

            self._recordings[key] = traced(batched, *args) if self._target.vectorized else batched
        with torch.no_grad():
            return self._recordings[key](*args)


class DataDensity(NamedTuple):
    """log f(y; theta) as a function of the data y [dim], at the theta that ``fn`` has."""

    site: AuxiliarySite
    fn: Any

    def log_factor(self, y: Tensor) -> Tensor:
        """log f of all data."""
        return self.fn.unnormalized_log_prob(self.site.values(y)).sum()

    def conditionals(self, y: Tensor, block: Tensor) -> Tensor:
        """Log probabilities [units, K] of the units of a block, given all others; what stands at
        other units means nothing."""
        site, states = self.site, self.site.num_states
        units = site.dim // site.rows
        if not self.fn.params:
            rows = site.values(y).reshape(-1, *self.fn.event_shape).to(y)
            changes = self.fn.energy.energy_changes(rows)
            if changes is not None:
                scale = torch.as_tensor(self.fn.temperature).expand(self.fn.batch_shape)
                by_unit = changes.reshape(site.rows, units, states) / scale.reshape(-1, 1, 1)
                return -by_unit.reshape(site.dim, states)
        # All units of a block lie in events of their own, so that one energy tells each of them.
        here = site.blocks.to(y.device) == block
        every = torch.arange(states, device=y.device, dtype=y.dtype)[:, None]
        log_f = self.fn.unnormalized_log_prob(site.values(torch.where(here, every, y)))
        by_row = log_f.reshape(states, site.rows).T[:, None]
        return by_row.expand(site.rows, units, states).reshape(site.dim, states)

    def table(self) -> Tensor:
        """log f of every configuration of an event [configurations, rows]."""
        site, batch = self.site, self.fn.batch_shape
        number = torch.arange(int(site.num_configurations), device=site.observed.device)
        values = site.states[digits(number, site.num_states, site.dim // site.rows)]
        values = values.reshape(len(number), *[1] * len(batch), *self.fn.event_shape)
        found = self.fn.unnormalized_log_prob(values.expand(-1, *batch, *self.fn.event_shape))
        return found.reshape(len(number), site.rows)


def _log_factor(site: AuxiliarySite, position: Tensor, y: Tensor) -> Tensor:
    return site.at(position).log_factor(y)


def _score(site: AuxiliarySite, position: Tensor, y: Tensor) -> Tensor:
    return torch.func.grad(lambda z: site.at(z).log_factor(y))(position)


def _table(site: AuxiliarySite, position: Tensor) -> Tensor:
    return site.at(position).table()


def auxiliary_sites(target: Target) -> tuple[AuxiliarySite, ...]:
    """The sites of a frozen model whose log Z its log density leaves out."""
    program = target.described
    nodes: Any = program.first_trace.nodes if isinstance(program, ModelProgram) else {}
    return tuple(
        AuxiliarySite(target, name)
        for name, node in nodes.items()
        if node["type"] == "sample" and getattr(bare(node["fn"]), "leaves_out_normalizer", False)
    )


def _blocks(fn: Any, units: int) -> Tensor:
    """The block of each unit of an event [units]: units of one block share no term at any theta.

    Only where an energy gives its changes by itself is there more than one unit in a block.
    """
    energy: Energy = fn.energy
    alone = torch.arange(units)
    # Which couplings of a matrix are zero is a matter of theta.
    dense = any(isinstance(part, DenseCouplings) for part in energy.modules())
    pairs = None if fn.params or dense else energy.interactions
    if pairs is None or _changes_of(fn) is None:
        return alone
    found = torch.zeros(units, dtype=torch.long)
    for number, block in enumerate(blocks_of(pairs.cpu(), units)):
        found[block.cpu()] = number
    return found


def _changes_of(fn: Any) -> Tensor | None:
    """What single changes do to one configuration, where the energy says it."""
    states = finite_states(fn)
    assert states is not None
    first = states.first.reshape(-1, *fn.event_shape)[:1]
    with torch.no_grad():
        return fn.energy.energy_changes(first.to(fn.like))
