"""Other data at an unnormalised site: log f(y; theta) for any y beside the position that has theta.

Samplers of doubly-intractable posteriors draw data y from the model at proposed parameters. Here an
observed energy site of a frozen model becomes a density over y, for every chain at its own theta;
continuous data have a file of their own (:mod:`.auxiliary_reals`). Discrete data are numbers of
states [units, chains]. A unit is drawn anew from

    p(y_i = k | rest) proportional to exp(conditionals[i, k]),

units that share no term of the energy together, as a block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.energies import Energy, blocks_of
from pyro_ebm.energies.couplings import DenseCouplings
from pyro_ebm.energies.enumeration import digits
from pyro_ebm.normalizers import bare, finite_states

from .auxiliary_reals import AuxiliaryReals
from .layout import Site
from .observed_energy import ObservedEnergy
from .program import ModelProgram
from .target import Target


class AuxiliarySite(ObservedEnergy):
    """One unnormalised observed site of discrete data.

    Attributes, beside those of any: ``observed`` are the numbers of the states of the data;
    ``blocks`` [dim] the number of the block of each unit, ``num_blocks`` of them;
    ``num_configurations`` that an event can have.

    :param target: a frozen model whose log density leaves out the log Z of the site.
    :raises ValueError: data that do not have finitely many states.
    """

    def __init__(self, target: Target, name: str) -> None:
        super().__init__(target, name)
        fn = self.first
        states = finite_states(fn)
        if states is None:
            raise ValueError(
                f"The data at {name!r} have no finite number of states ({fn.support}), and "
                "Exchange draws discrete data of finitely many, or continuous ones. Give "
                "log_normalizer=, a function, from a closed form or from estimates of log Z at "
                "several parameters (AIS)."
            )
        self._site = Site(
            name,
            0,
            states.shape,
            torch.Size(fn.shape()),
            len(fn.event_shape),
            (),
            states.values.dtype,
            states.values.device,
            states.values,
        )
        self.states, self.num_states = states.values, len(states.values)
        self.observed = self._site.numbers_of(self.value).to(target.dtype)
        units = self.dim // self.rows
        self.num_configurations = float(self.num_states) ** units
        within = _blocks(fn, units)
        self.blocks = within.repeat(self.rows)
        self.num_blocks = int(within.max()) + 1

    def values(self, y: Tensor) -> Tensor:
        """Data [*more, *shape] of numbers of states [*more, dim]."""
        return self._site.value_of(y.reshape(*y.shape[:-1], *self._site.unconstrained_shape))

    def at(self, position: Tensor) -> DataDensity:
        """log f(.; theta) of one chain, at its position [dim]."""
        return DataDensity(self, self.distribution_at(position))

    def table(self, positions: Tensor) -> Tensor:
        """log f of every configuration of an event [configurations, rows, chains]."""
        return self.mapped(_table, positions)

    def listed(self, index: Tensor) -> Tensor:
        """Coordinates [dim, chains] of configurations by number [rows, chains]."""
        units = self.dim // self.rows
        found = digits(index.long(), self.num_states, units).movedim(-1, 1)
        return found.reshape(self.dim, -1).to(self.observed)


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


def _table(site: AuxiliarySite, position: Tensor) -> Tensor:
    return site.at(position).table()


def auxiliary_sites(target: Target) -> tuple[AuxiliarySite | AuxiliaryReals, ...]:
    """The sites of a frozen model whose log Z its log density leaves out."""
    program = target.described
    nodes: Any = program.first_trace.nodes if isinstance(program, ModelProgram) else {}
    return tuple(
        (AuxiliarySite if bare(node["fn"]).support.is_discrete else AuxiliaryReals)(target, name)
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
