"""Mixtures of energies: densities that add.

With E_k the energies of the components, the mixture's is a soft minimum,
E(x) = -log sum_k exp(log w_k - E_k(x)), computed without overflow by logsumexp.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from .algebra import evaluate_all, members, together
from .base import Energy
from .checks import as_temperature, values_visible
from .numbers_seen import holds_at_all, overrides_functions
from .parameters import keep, over_event, spread_out


class Mixture(Energy):
    """The sum of densities, as they are given: exp(-E(x)) = sum_k w_k exp(-E_k(x)).

    The components are *not* normalised first: a component's share of the mixture is w_k Z_k / Z,
    with Z = sum_k w_k Z_k. Where every Z_k is known, so is Z at T = 1 (at other temperatures the
    density is a power of a sum, whose integral is not). For shares of w_k, give log_weights
    log(w_k) - E_k.log_normalizer(), or use `GaussianMixtureEnergy`.

    Args:
        energies: at least one energy, all of one event shape and support; functions and nets are
            taken to live where the first `Energy` among them lives.
        log_weights: log w_k, a tensor [K]; used as given, not normalised. None means w_k = 1/K.

    Raises:
        ValueError: no energies, they live in different places, or not one weight for each.
    """

    log_weights: Tensor | None

    def __init__(self, energies: Sequence[object], log_weights: Tensor | None = None) -> None:
        parts = together(energies, "energies")
        super().__init__(parts[0].event_shape, support=parts[0].support)
        if log_weights is not None:
            check_log_weights(log_weights, len(parts))
        self.energies = nn.ModuleList(parts)
        keep(self, "log_weights", log_weights)

    def forward(self, x: Tensor, *params: Tensor) -> Tensor:
        energies = torch.stack(evaluate_all(self.energies, x, params), -1)
        return -self._weighted(-energies).logsumexp(-1)

    def _weighted(self, log_values: Tensor) -> Tensor:
        if self.log_weights is None:
            return log_values - math.log(len(self.energies))
        return log_values + self.log_weights

    @property
    def support(self) -> Constraint:
        return members(self.energies)[0].support

    @property
    def takes_params(self) -> bool:
        return any(energy.takes_params for energy in members(self.energies))

    def _log_masses(self, temperature: float | Tensor) -> Tensor | None:
        """log(w_k Z_k), [*batch, K]; None unless T = 1 and every Z_k is known."""
        if is_one(temperature) is False:
            return None
        known = self._ask("log_normalizer", temperature)
        if known is None:
            return None
        return where_one(temperature, self._weighted(torch.stack(known, -1)), torch.Size((1,)))

    def _ask(self, what: str, temperature: float | Tensor) -> list[Tensor] | None:
        answers = [getattr(energy, what)(temperature) for energy in members(self.energies)]
        return None if any(answer is None for answer in answers) else answers

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        masses = self._log_masses(temperature)
        return None if masses is None else masses.logsumexp(-1)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        masses, means = self._log_masses(temperature), self._ask("mean", temperature)
        if masses is None or means is None:
            return None
        shares = masses.softmax(-1).unbind(-1)
        event = self.event_shape
        return torch.stack(
            [over_event(p, event) * m for p, m in zip(shares, means, strict=True)]
        ).sum(0)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        masses, means = self._log_masses(temperature), self._ask("mean", temperature)
        variances, mean = self._ask("variance", temperature), self.mean(temperature)
        if masses is None or means is None or variances is None or mean is None:
            return None
        shares = masses.softmax(-1).unbind(-1)
        event = self.event_shape
        return torch.stack(
            [
                over_event(p, event) * (v + (m - mean).square())
                for p, m, v in zip(shares, means, variances, strict=True)
            ]
        ).sum(0)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        levels = spread_out(temperature, shape)
        masses = self._log_masses(levels if levels.numel() else 1.0)
        if masses is None:
            return None
        # At T = 1 everywhere, the batch of temperatures holds one mixture many times.
        shares = masses.detach().reshape(-1, masses.shape[-1])[0].softmax(-1)
        shape = torch.Size(shape)
        choice = torch.multinomial(shares, max(shape.numel(), 1), True, generator=generator)
        choice = choice[: shape.numel()]
        draws = None
        for k, energy in enumerate(members(self.energies)):
            rows = (choice == k).nonzero().squeeze(-1)
            part = energy.exact_sample((len(rows),), generator=generator)
            if part is None:
                return None
            draws = part.new_empty(choice.shape + self.event_shape) if draws is None else draws
            draws = draws.to(torch.promote_types(draws.dtype, part.dtype))
            draws[rows] = part.to(draws.dtype)
        return None if draws is None else draws.reshape(shape + self.event_shape)


def is_one(temperature: float | Tensor) -> bool | None:
    """Whether a temperature is 1 throughout; None for a tensor that cannot be looked at."""
    value = as_temperature(temperature)
    if not isinstance(temperature, Tensor):
        return temperature == 1
    if overrides_functions(value):
        # What is followed to find what it hangs on is no constant.
        return False
    return holds_at_all(lambda level: level == 1, value)


def where_one(temperature: float | Tensor, known: Tensor, event: torch.Size) -> Tensor:
    """What is known at T = 1 alone: NaN at other temperatures, of which only traces have any.

    Args:
        temperature: T, a number or a tensor [*batch], that `is_one` does not deny.
        known: what holds at T = 1, [*batch, *event].
        event: the shape of the event.
    """
    legal = over_event(as_temperature(temperature) == 1, event).to(known.device)
    return torch.where(legal, known, math.nan)


def check_log_weights(log_weights: Tensor, count: int) -> None:
    """Refuse log weights that are not one real number below inf for each of `count` components."""
    if log_weights.shape != (count,) or not log_weights.is_floating_point():
        raise ValueError(
            f"expected log_weights to be a floating-point tensor of shape ({count},), one for each "
            f"component, got shape {tuple(log_weights.shape)} of {log_weights.dtype}."
        )
    # NaN compares false. A weight of zero, log weight -inf, is legal; all of them zero is not.
    values = log_weights.detach()
    if values_visible() and not bool((values < math.inf).all() & values.isfinite().any()):
        raise ValueError(f"expected log_weights below inf, not all -inf, got {values}.")
