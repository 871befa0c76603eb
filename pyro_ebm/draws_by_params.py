"""Draws of a discrete energy that takes params, each configuration at params of its own.

Where an event has few configurations all of them are listed, and the draws are exact; else each is
the end of a chain of sweeps in which every site in turn is drawn given all others. Either is plain
arithmetic of tensors with torch's own random numbers, so that it also runs under vmap, for all
posterior draws of the params at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_ebm.energies import Energy, evaluate, values_visible
from pyro_ebm.energies.enumeration import configurations, count_configurations
from pyro_ebm.energies.sites import num_sites, site_values

from .draws import NUM_TRANSITIONS, warn_approximate

# Under vmap every draw of the params has a list of its own in memory.
_MOST_LISTED = 2**10
_MAX_TRIES = 100
# Numbers held at once.
_NUMBERS = 2**24


class AtParams(NamedTuple):
    """An energy at params and temperatures that broadcast with one another."""

    energy: Energy
    params: tuple[Tensor | float, ...]
    temperature: float | Tensor

    def draws(self, shape: torch.Size) -> Tensor:
        """Configurations [*shape, *event], the rightmost axes of the shape being the batch.

        :raises ValueError: no start of finite energy in 100 tries.
        """
        if count_configurations(self.energy) <= _MOST_LISTED:
            return self._listed(shape)
        warn_approximate()
        return self._swept(shape)

    def _all(self) -> list[Tensor]:
        """The params and, last, the temperature, of one shape."""
        values = [torch.as_tensor(value) for value in (*self.params, self.temperature)]
        return list(torch.broadcast_tensors(*values))

    def _listed(self, shape: torch.Size) -> Tensor:
        number = count_configurations(self.energy)
        every = configurations(self.energy, torch.arange(number))
        *params, temperature = (value.reshape(-1) for value in self._all())
        batch = self._all()[-1].shape
        size = max(1, _NUMBERS // every.numel())
        found = []
        for some in torch.arange(len(temperature), device=temperature.device).split(size):
            x = every.repeat(len(some), *[1] * (every.dim() - 1))
            at = [param[some].repeat_interleave(number).to(every) for param in params]
            found.append(evaluate(self.energy, x, at).double().reshape(len(some), number))
        energies = torch.cat(found)
        shares = (-energies / temperature[:, None]).softmax(-1).cumsum(-1)
        # The last one is one but for rounding: below it there is always a configuration.
        ends = shares[:, :-1].reshape(*batch, number - 1)
        uniform = torch.rand(shape, dtype=torch.float64, device=ends.device)
        rest = shape[len(shape) - len(batch) :].numel() if batch else 1
        parts = uniform.reshape(-1, *shape[len(shape) - len(batch) :])
        size = max(1, _NUMBERS // (rest * number))
        found = [(part[..., None] >= ends).sum(-1) for part in parts.split(size)]
        return every[torch.cat(found).reshape(shape)]

    def _swept(self, shape: torch.Size) -> Tensor:
        energy, rows = self.energy, shape.numel()
        *params, temperature = (value.expand(shape).reshape(-1) for value in self._all())
        own = [*energy.parameters(), *energy.buffers()]
        like = next((t for t in own if t.is_floating_point()), None)
        values = site_values(energy, like)
        values = values if values.is_floating_point() else values.to(torch.get_default_dtype())
        count, sites = len(values), num_sites(energy)
        params = [param.to(values) for param in params]
        repeated = [param.repeat_interleave(count) for param in params]

        def energies(numbers: Int[Tensor, "n sites"], at: list[Tensor]) -> Float[Tensor, " n"]:
            return evaluate(energy, values[numbers].reshape(-1, *energy.event_shape), at).double()

        def uniform() -> Tensor:
            return torch.randint(count, (rows, sites), device=values.device)

        numbers = uniform()
        now = energies(numbers, params)
        for _ in range(_MAX_TRIES):
            if values_visible() and bool(now.isfinite().all()):
                break
            fresh = uniform()
            numbers = torch.where(now.isfinite()[:, None], numbers, fresh)
            now = energies(numbers, params)
        if values_visible() and not bool(now.isfinite().all()):
            raise ValueError(
                f"found no configuration of finite energy in {_MAX_TRIES} tries. Draw from this "
                "energy by MCMC with initial_params=."
            )
        every = torch.arange(count, device=values.device)
        for _ in range(NUM_TRANSITIONS):
            for site in range(sites):
                here = torch.arange(sites, device=values.device) == site
                moved = torch.where(here, every[None, :, None], numbers[:, None])
                found = energies(moved.reshape(-1, sites), repeated).reshape(rows, count)
                shares = (-found / temperature[:, None]).softmax(-1).cumsum(-1)
                u = torch.rand(rows, 1, dtype=torch.float64, device=values.device)
                drawn = (u >= shares[:, :-1]).sum(-1)
                numbers = torch.where(here, drawn[:, None], numbers)
        return values[numbers].reshape(*shape, *energy.event_shape)
