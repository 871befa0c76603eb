"""Gibbs chains of an energy at any params and inverse temperatures, from starts far apart."""

from __future__ import annotations

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.energies import Energy
from pyro_ebm.energies.enumeration import configurations
from pyro_ebm.mcmc.auxiliary import StateDraws
from pyro_ebm.normalizers import without_normalizers
from pyro_ebm.target import Target
from pyro_ebm.target.auxiliary import AuxiliarySite, auxiliary_sites


class Scores(NamedTuple):
    """Means over the sweeps of chains [points, dim + 1, chains] of the gradient of log f by the
    params and the inverse temperature. Of these at every point the largest ``ratio`` [points] of
    the variance between chains to that between halves of chains, 1 where they have mixed, and the
    largest ``drift`` [points] from the first halves to the second, in its own errors."""

    means: Tensor
    ratio: Tensor
    drift: Tensor


class Chains(NamedTuple):
    """Gibbs chains of an energy at any params and inverse temperature."""

    draws: StateDraws
    num_chains: int
    num_sweeps: int
    start: Tensor | None = None

    @classmethod
    def of(
        cls,
        energy: Energy,
        dim: int,
        temperature: float,
        *,
        num_chains: int,
        num_sweeps: int,
        start: Tensor | None = None,
    ) -> Chains:
        """The chains of an energy of ``dim`` params; ``start`` [sites] are numbers of states."""
        tempered = Tempered(energy)
        first = configurations(energy, torch.zeros(1, dtype=torch.long))[0]

        def model() -> None:
            at = pyro.sample("at", dist.Normal(torch.zeros(dim + 1), 1.0).to_event(1))
            params = (*at.unbind(-1),)
            density = EnergyDistribution(tempered, params=params, temperature=temperature)
            pyro.sample("x", density, obs=first)

        target = Target.freeze(without_normalizers(model, {"x"}), (), {})
        (site,) = auxiliary_sites(target)
        assert isinstance(site, AuxiliarySite)
        return cls(StateDraws(site, 1, 0, listed=False), num_chains, num_sweeps, start)

    def scores(self, params: Tensor, betas: Tensor, generator: torch.Generator) -> Scores:
        """At params [points, d] and inverse temperatures [points]."""
        site, chains = self.draws.site, self.num_chains
        at = torch.cat([params, betas[:, None]], 1).T.repeat_interleave(chains, 1)
        at = at.to(torch.get_default_dtype())
        number = at.shape[1]
        y = self._starts(number, generator).to(at)
        total, first_total = torch.zeros(2, *at.shape, dtype=torch.float64)
        dropped = self.num_sweeps // 5
        kept = self.num_sweeps - dropped
        for sweep in range(self.num_sweeps):
            numbers = torch.rand(
                site.dim, number, generator=generator, dtype=at.dtype, device=generator.device
            )
            y = self.draws.swept(at, y, numbers)
            if sweep >= dropped:
                total = total + site.score(at, y)
            if sweep + 1 == dropped + kept // 2:
                first_total = total
        means = (total / kept).reshape(len(at), -1, chains).movedim(0, 1)
        halves = first_total / (kept // 2), (total - first_total) / (kept - kept // 2)
        first, second = (half.reshape(len(at), -1, chains).movedim(0, 1) for half in halves)
        # Halves of chains that have mixed are independent of one another.
        moved = first - second
        within = moved.var(-1).clamp(min=1e-12)
        ratio = (first + second).var(-1) / within
        drift = moved.mean(-1).abs() / (within / chains).sqrt()
        return Scores(means, ratio.amax(1), drift.amax(1))

    def _starts(self, number: int, generator: torch.Generator) -> Tensor:
        """Numbers of states [sites, number]: of the chains at a point one is random, one has all
        sites in the first state, one in the second and so on, one is ``start``, and again."""
        site = self.draws.site
        random = torch.randint(
            site.num_states, (site.dim, number), generator=generator, device=generator.device
        )
        constant = torch.arange(site.num_states)[:, None].expand(-1, site.dim)
        given = [] if self.start is None else [self.start[None]]
        fixed = torch.cat([constant, *given])
        kind = torch.arange(number) % self.num_chains % (len(fixed) + 1)
        chosen = fixed[(kind - 1).clamp(min=0)].T
        return torch.where(kind == 0, random, chosen)


class Tempered(Energy):
    """s E(x; theta), s the last of the params."""

    def __init__(self, energy: Energy) -> None:
        super().__init__(energy.event_shape, support=energy.support)
        self.energy = energy

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        return params[-1] * self.energy(x, *params[:-1])
