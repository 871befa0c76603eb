"""The density of rows of coordinates that was learned, exp(-E/T)/Z: its draws, its log Z, its T.

An energy that tilts a mixture is annealed from it, for draws and log Z alike. An energy that was
given has no such base: chains that begin at the data draw from it, and log Z is what is known of it
or what annealing from a base of its own gives.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.annealing import LogZ
from pyro_ebm.diagnostics import split_rhat
from pyro_ebm.energies import Energy
from pyro_ebm.learning.chains import ChainState
from pyro_ebm.learning.evaluation import held_out_log_likelihood
from pyro_ebm.learning.temperature import (
    CalibratedTemperature,
    NoTemperatureError,
    beginning,
    solve_temperature,
    starting_rows,
)

from .annealed_rows import AnnealedRows, annealed_rows
from .given_energy import GivenEnergy
from .mixture_base import MixtureBase
from .row_chains import RowChains

# Rows that log Z is annealed with, and fewest that are annealed for draws.
PARTICLES, _LEAST_ROWS = 1024, 1024
# Chains of an energy without a base: transitions before draws, and draws that R-hat is told from.
_SETTLE, _JUDGED, _MOST_RHAT = 300, 50, 1.05
_CALIBRATED = 256


class UncertainSampleWarning(UserWarning):
    """Draws of a learned energy, or its temperature, may not be those of its density."""


class RowDensity(NamedTuple):
    """exp(-E/T)/Z over rows [n, dim] of coordinates and states.

    :ivar energy: E of rows.
    :ivar temperature: T.
    :ivar num_states: of each coordinate, 0 where it is a real number.
    :ivar base: the mixture that was fitted to the data.
    :ivar starts: rows of the data, for chains to begin at.
    :ivar is_mixture: whether the energy is that of the mixture, untouched by learning.
    """

    energy: Energy
    temperature: float
    num_states: tuple[int, ...]
    base: MixtureBase
    starts: Tensor
    is_mixture: bool

    def tempered(self, rows: Tensor) -> Tensor:
        """E/T."""
        return self.energy(rows) / self.temperature

    @property
    def is_base(self) -> bool:
        """Whether this is the density of the mixture itself."""
        return self.is_mixture and self.temperature == 1.0

    def sample(self, n: int, stream: torch.Generator) -> Tensor:
        """Rows [n, dim]; a warning tells of what speaks against them."""
        if self.is_base:
            return self.base.sample(n, stream)
        if not isinstance(self.energy, GivenEnergy):
            done = self._annealed(max(n, _LEAST_ROWS), stream)
            if not done.log_z.reliable:
                _warn(done.log_z.why)
            return done.rows[
                torch.randperm(len(done.rows), generator=stream, device=stream.device)[:n]
            ]
        chains = RowChains(self.tempered, self.num_states)
        picked = torch.randint(
            len(self.starts), (max(n, 64),), generator=stream, device=stream.device
        )
        state, _ = chains.move(chains.begin(self.starts[picked]), _SETTLE, stream)
        energies = []
        for _ in range(_JUDGED):
            state, _ = chains.move(state, 1, stream)
            with torch.no_grad():
                energies.append(self.tempered(chains.rows(state)).double())
        rhat = float(split_rhat(torch.stack(energies, 1)))
        if rhat > _MOST_RHAT:
            _warn(f"R-hat of the energy is {rhat:.2f} over the last {_JUDGED} transitions.")
        return chains.rows(state)[:n]

    def log_z(self, stream: torch.Generator) -> LogZ:
        """log Z, with its error and a verdict."""
        energy = self.energy
        if self.is_base:
            return LogZ(0.0, 0.0, "the mixture", True, "the mixture is normalised")
        if not isinstance(energy, GivenEnergy):
            return self._annealed(PARTICLES, stream).log_z
        if energy.joint:
            return LogZ(
                0.0, math.inf, "none", False, "a joint energy without a base has no known log Z"
            )
        found = held_out_log_likelihood(
            energy.energy,
            energy.configurations(self.starts[:2]),
            temperature=self.temperature,
            generator=stream,
        )
        return LogZ(found.log_z, found.log_z_error, found.method, found.reliable, found.why)

    def calibrated(self, stream: torch.Generator) -> CalibratedTemperature:
        """The temperature at which draws have the mean energy of the data.

        A warning tells where it is not reliable; 1 with an infinite error where there is none.
        """
        beta = 1.0

        def energy(rows: Tensor) -> Tensor:
            return beta * self.energy(rows)

        chains = RowChains(energy, self.num_states)

        def start(level: float) -> ChainState:
            nonlocal beta
            beta = level
            return chains.begin(self.starts[starting_rows(len(self.starts), _CALIBRATED, stream)])

        begin = beginning(
            start,
            lambda state: chains.move(state, 1, stream)[0],
            lambda state: self.energy(chains.rows(state)),
        )
        with torch.no_grad():
            of_data = self.energy(self.starts)
        try:
            found = solve_temperature(begin, of_data, num_draws=100)
        except NoTemperatureError as none:
            found = CalibratedTemperature(1.0, math.inf, False, str(none))
        if not found.reliable:
            warnings.warn(
                f"The calibrated temperature is not reliable: {found.why}",
                UncertainSampleWarning,
                stacklevel=4,
            )
        return found

    def _annealed(self, number: int, stream: torch.Generator) -> AnnealedRows:
        return annealed_rows(
            self.energy,
            self.base.around(),
            self.num_states,
            number=number,
            temperature=self.temperature,
            generator=stream,
        )


def _warn(why: str) -> None:
    warnings.warn(
        f"The draws may not have the learned distribution: {why}",
        UncertainSampleWarning,
        stacklevel=4,
    )
