"""Ladders of replicas, one at every inverse temperature, that move and change places.

All ladders at all temperatures are one batch: positions [dim, temperatures, ladders], the base
first and the target last. A sweep draws the replicas of the base anew, independently; moves the
others by the kernel, each temperature with its own step size and metric; and proposes to neighbours
to change places, accepted with probability

    min(1, exp((beta' - beta) (U(x) - U(x'))))

for x at beta and x' at beta', U the slope of the path. Pairs (0, 1), (2, 3), ... take turns with
(1, 2), (3, 4), ...: then a replica on its way is carried on instead of wandering, and the time of a
round trip does not grow with the number of temperatures.

Source: Okabe, Kawata, Okamoto, Mikami (2001); Syed, Bouchard-Côté, Deligiannidis, Doucet (2022),
Non-reversible parallel tempering: a scalable highly parallel MCMC scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.mcmc.kernel import Noise, Settings
from pyro_ebm.mcmc.metric import DiagonalMetric

from .loop import Loop, Runner, plainly
from .moves import DiscreteMoves, Moves, swept
from .path import Path


class Rungs(NamedTuple):
    """What is tuned: per temperature [t] an inverse temperature, a step size, a root of the metric
    (``factor`` [t, dim, dim], or [t, dim])."""

    betas: Tensor
    step_size: Tensor
    factor: Tensor


class Replicas(NamedTuple):
    """``positions`` [dim, t, ladders], and by replica where it has last been: ``upward`` [t,
    ladders] is 1 since the base, -1 since the target, 0 before either."""

    positions: Tensor
    upward: Tensor


class _Rising(NamedTuple):
    """The temperatures that have replicas already: positions [dim, ladders] of each."""

    rows: list[Tensor]


class Sweep(NamedTuple):
    """What a sweep saw before places were changed: slopes [t, ladders], the mean acceptance of the
    moves [t], the rate at which each pair would be refused [t - 1], and how many replicas have come
    from the base to the target (``arrivals``) and back again (``round_trips``)."""

    slope: Tensor
    acceptance: Tensor
    rejection: Tensor
    arrivals: Tensor
    round_trips: Tensor


def swap_log_ratio(slope: Tensor, betas: Tensor) -> Tensor:
    """log of the ratio by which neighbours [t - 1, ladders] may change places."""
    ratio = betas.diff()[:, None] * (slope[:-1] - slope[1:])
    return torch.where(ratio.isnan(), -torch.inf, ratio)


class Ladder:
    """Moves ladders of replicas along one path; the step is recorded once for every shape."""

    def __init__(self, path: Path, moves: Moves) -> None:
        self.path, self.moves = path, moves
        self._over_states = isinstance(moves, DiscreteMoves)
        self._kernel = moves.kernel_on(path) if isinstance(moves, DiscreteMoves) else moves.kernel()
        self._recorded: dict[tuple, Callable] = {}

    def start(
        self,
        rungs: Rungs,
        num_ladders: int,
        generator: torch.Generator,
        *,
        run: Runner = plainly,
    ) -> Replicas:
        """Each ladder from one draw of the base, moved on from temperature to temperature.

        :param run: what runs the moves.
        """

        def begin() -> _Rising:
            return _Rising([self._base(num_ladders, generator)])

        def step(state: _Rising) -> _Rising:
            t = len(state.rows)
            one = Rungs(*(part[t : t + 1] for part in rungs))
            moved, _ = self._move(state.rows[-1][:, None], one, generator)
            return _Rising([*state.rows, moved[:, 0]])

        last = len(rungs.betas) - 1
        rows = run(
            Loop(
                _Rising,
                generator,
                begin,
                step,
                finished=lambda state: len(state.rows) > last,
                number=lambda state: len(state.rows) - 1,
                total=last,
            )
        ).rows
        positions = torch.stack(rows, dim=1)
        return Replicas(positions, positions.new_zeros(positions.shape[1:], dtype=torch.long))

    def sweep(
        self, replicas: Replicas, rungs: Rungs, number: int, generator: torch.Generator
    ) -> tuple[Replicas, Sweep]:
        """Move and change places; ``number`` says which pairs have their turn."""
        positions, upward = replicas
        moved, acceptance = self._move(
            positions[:, 1:], Rungs(*(part[1:] for part in rungs)), generator
        )
        positions = torch.cat([self._base(positions.shape[2], generator)[:, None], moved], dim=1)
        slope = self.slope(positions, rungs)
        upward, arrivals, round_trips = _visits(upward)
        log_ratio = swap_log_ratio(slope, rungs.betas)
        order = exchange(log_ratio, number, generator)
        index = order.expand(len(positions), *order.shape)
        replicas = Replicas(positions.gather(1, index), upward.gather(0, order))
        rejection = 1.0 - log_ratio.clamp(max=0.0).exp().mean(1)
        return replicas, Sweep(slope, acceptance, rejection, arrivals, round_trips)

    def slope(self, positions: Tensor, rungs: Rungs) -> Tensor:
        """U [t, ladders] at positions [dim, t, ladders]."""
        dim, t, ladders = positions.shape
        betas = _spread(rungs.betas, positions)
        flat = positions.reshape(dim, -1)
        if self.path.sweeps is not None:
            return self.path.sweeps.slope(flat).reshape(t, ladders)
        evaluate = self._record("slope", self._slope, flat.shape[1], flat, betas)
        slope: Tensor = evaluate(flat, betas)
        return slope.reshape(t, ladders)

    def _slope(self, positions: Tensor, betas: Tensor) -> Tensor:
        return self.path.evaluate(positions, betas)[2]

    def _base(self, number: int, generator: torch.Generator) -> Tensor:
        return self.path.sample(number, generator)

    def _move(
        self, positions: Tensor, rungs: Rungs, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Positions [dim, t, ladders] after the moves, and their mean acceptance [t].

        The kernel runs in coordinates y with x = factor y, in which its metric is the identity;
        states are moved as they are.
        """
        dim, t, ladders = positions.shape
        n = t * ladders
        betas, step_size = (_spread(part, positions) for part in (rungs.betas, rungs.step_size))
        if self.path.sweeps is not None:
            flat = positions.reshape(dim, n)
            flat = swept(self.path.sweeps, flat, betas, self.moves.num_transitions, generator)
            return flat.reshape(dim, t, ladders), positions.new_ones(t)
        factor = rungs.factor
        zero = torch.zeros((), dtype=torch.long, device=positions.device)
        identity = DiagonalMetric(positions.new_ones(1, dim))
        settings = Settings(step_size, identity, zero, zero + 30)
        kind = {"generator": generator, "dtype": positions.dtype, "device": positions.device}
        acceptance = positions.new_zeros(n)
        flat = positions.reshape(dim, n)
        for _ in range(self.moves.num_transitions):
            begin = self._record("begin", self._begin, n, flat, betas, factor, settings)
            chain = begin(flat, betas, factor, settings)
            step_from = flat.new_zeros(dim, n)
            waiting = torch.ones(n, dtype=torch.bool, device=positions.device)
            while bool(waiting.any()):
                noise = Noise(
                    torch.randn(dim, n, **kind), torch.rand(self._kernel.uniforms, n, **kind)
                )
                arguments = (chain, noise, settings, flat, betas, factor)
                chain, transition = self._record("step", self._step, n, *arguments)(*arguments)
                first = waiting & transition.done
                step_from = torch.where(first, transition.position, step_from)
                acceptance = torch.where(first, transition.acceptance_rate, acceptance)
                waiting = waiting & ~transition.done
            flat = step_from if self._over_states else flat + _apply(factor, step_from)
        return flat.reshape(dim, t, ladders), acceptance.reshape(t, ladders).mean(1)

    def _begin(self, origin: Tensor, betas: Tensor, factor: Tensor, settings: Settings) -> Any:
        log_density, gradient, _ = self.path.evaluate(origin, betas)
        if self._over_states:
            return self._kernel.init(origin, log_density, gradient, settings)
        push = _apply(factor.mT if factor.dim() == 3 else factor, gradient)
        return self._kernel.init(torch.zeros_like(origin), log_density, push, settings)

    def _step(
        self,
        chain: Any,
        noise: Noise,
        settings: Settings,
        origin: Tensor,
        betas: Tensor,
        factor: Tensor,
    ) -> Any:
        def over_states(positions: Tensor) -> tuple[Tensor, Tensor]:
            return self.path.evaluate(positions, betas)[:2]

        def density(offset: Tensor) -> tuple[Tensor, Tensor]:
            log_density, gradient, _ = self.path.evaluate(origin + _apply(factor, offset), betas)
            return log_density, _apply(factor.mT if factor.dim() == 3 else factor, gradient)

        used = over_states if self._over_states else density
        return self._kernel.step(used, chain, noise, settings)

    def _record(self, name: str, function: Callable, number: int, *example: Any) -> Callable:
        shape = (name, *(tuple(e.shape) for e in example if isinstance(e, Tensor)))
        if shape not in self._recorded:
            self._recorded[shape] = self.path.record(function, number, *example)
        return self._recorded[shape]


def exchange(log_ratio: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """The order [t, ladders] in which replicas stand after some neighbours have changed places.

    Pairs whose lower place is even have their turn when ``number`` is, the others when it is odd.
    """
    uniform = torch.rand(
        log_ratio.shape, generator=generator, dtype=log_ratio.dtype, device=log_ratio.device
    )
    place = torch.arange(len(log_ratio), device=log_ratio.device)[:, None]
    swapped = (place % 2 == number % 2) & (uniform.log() < log_ratio)
    up = torch.nn.functional.pad(swapped.long(), (0, 0, 0, 1))
    down = torch.nn.functional.pad(swapped.long(), (0, 0, 1, 0))
    everyone = torch.arange(len(up), device=log_ratio.device)[:, None]
    return everyone + up - down


def _visits(upward: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mark the replicas at either end; count those that come to it from the other."""
    arrivals, round_trips = (upward[-1] == 1).sum(), (upward[0] == -1).sum()
    marked = upward.clone()
    marked[0], marked[-1] = 1, -1
    return marked, arrivals, round_trips


def _spread(values: Tensor, positions: Tensor) -> Tensor:
    """Per temperature [t] to per replica [t * ladders]."""
    return values.to(positions.dtype).repeat_interleave(positions.shape[2])


def _apply(factor: Tensor, x: Tensor) -> Tensor:
    """Each temperature's own linear map of its replicas, x [dim, t * ladders]."""
    t, dim = factor.shape[0], x.shape[0]
    grouped = x.reshape(dim, t, -1)
    if factor.dim() == 2:
        return (factor.T[:, :, None] * grouped).reshape(dim, -1)
    return (factor @ grouped.transpose(0, 1)).transpose(0, 1).reshape(dim, -1)
