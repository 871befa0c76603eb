"""The trajectory length: gradient ascent on how far trajectories carry the widest direction.

The ChEES criterion, change in the estimator of the expected square, is the mean of

    C = (|x' - m|^2 - |x - m|^2)^2 / 4

over trajectories from x to x' in whitened positions of mean m; a trajectory that goes on moves x'
by its momentum p', so that the derivative by the logarithm of its length t is

    dC / dlog t = t (|x' - m|^2 - |x - m|^2) (x' - m) . p'.

Of hundreds of directions the few slow ones hardly count in |x|^2, and a length that suits the many
is short for them. So the criterion looks along one direction w only, x -> w . x, that in which the
whitened draws spread most: the slowest to cross. It is not divided by the length as in the second
source: that wins little in squares and loses much in means, whose chains turn antithetic on longer
trajectories.

All chains' trajectories are pooled, weighted by their acceptance rates, and Adam climbs. A window
of warm-up fixes direction and metric; the first, which finds the way in, learns no length, and
chains that are still on their way do not count. Long trajectories turn back and forth, and the
criterion has a maximum for each time that they do; the first is the highest, and the length is held
near enough to find it.

Source: Hoffman, Radul, Sountsov (2021), An adaptive-MCMC scheme for setting trajectory lengths in
Hamiltonian Monte Carlo; Sountsov, Hoffman (2021), Focusing on difficult directions for learning HMC
trajectory lengths; Kingma, Ba (2015), Adam.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .kernel import Settings, Transition
from .metric import force, mass_times

# Mean length at which lengths uniform on (0, 2t) change the square of a standard normal most.
STANDARD_LENGTH = 1.12
_RATE, _BETA1, _BETA2, _TINY = 0.15, 0.9, 0.95, 1e-30
_ITERATIONS = 30
# The weight of new trajectories in the running mean and spread.
_NEW = 0.1
# Beyond so many times the best length for a Gaussian its criterion has further, lower maxima.
_BEYOND = 1.7
# The median distance of a standard normal from its mean.
_MEDIAN_DISTANCE = 0.6745


class Latest(NamedTuple):
    """The latest trajectory of every chain along the direction, each [chains].

    ``start`` and ``end`` are w . x, ``momentum`` is w . p at the end, ``duration`` its length in
    time and ``weight`` its acceptance rate; zero before there is one.
    """

    start: Tensor
    end: Tensor
    momentum: Tensor
    duration: Tensor
    weight: Tensor


class LengthLearning(NamedTuple):
    """The state of the ascent; scalars in float64.

    ``direction`` [dim] is w in whitened positions, ``projection`` [dim] the same for plain ones,
    w . L^-1 q. Both are zero before the first window has closed, and then nothing is learned.
    ``center`` is a running mean of the projections, ``spread`` one of their distance from it, and
    ``arrived`` [chains] says which chains count.
    """

    log_length: Tensor
    log_average: Tensor
    moment: Tensor
    square: Tensor
    num_updates: Tensor
    center: Tensor
    spread: Tensor
    direction: Tensor
    projection: Tensor
    arrived: Tensor
    latest: Latest


def start_length(length: float, position: Tensor) -> LengthLearning:
    """Begin at a length, with chains at positions [dim, chains]."""
    log_length = torch.tensor(math.log(length), dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    flat = torch.zeros_like(position[:, 0])
    none = torch.zeros_like(position[0])
    return LengthLearning(
        log_length=log_length,
        log_average=log_length,
        moment=zero,
        square=zero,
        num_updates=zero,
        center=zero,
        spread=zero,
        direction=flat,
        projection=flat,
        arrived=torch.ones_like(none, dtype=torch.bool),
        latest=Latest(none, none, none, none, none),
    )


def look_along(
    state: LengthLearning, settings: Settings, draws: Tensor, arrived: Tensor
) -> LengthLearning:
    """Turn to the direction in which draws [dim, n], whitened by the metric, spread most.

    Fewer than two draws tell no direction.

    :param arrived: the chains [chains] that are not still on their way in.
    """
    if draws.shape[1] < 2:
        return state
    mean = draws.mean(1)
    centred = draws - mean[:, None]
    projection = _widest(settings, centred)
    version = settings.version
    direction = force(settings.metric, version, projection[:, None])[:, 0]
    return state._replace(
        center=(projection @ mean).double().cpu(),
        spread=(projection @ centred).abs().median().double().cpu(),
        direction=direction,
        projection=projection,
        arrived=arrived,
        latest=Latest(*(torch.zeros_like(part) for part in state.latest)),
    )


def _widest(settings: Settings, centred: Tensor) -> Tensor:
    """The c [dim] of largest c' S c with c' M^-1 c = 1, S the covariance of centred draws [dim, n].

    Power iteration c <- M S c, from the draw that lies farthest out.
    """
    metric, version = settings.metric, int(settings.version)
    pulled = mass_times(metric, version, centred)
    c = pulled[:, (centred * pulled).sum(0).argmax()]
    for _ in range(_ITERATIONS):
        norm = force(metric, settings.version, c[:, None]).norm()
        c = c / norm.clamp(min=_TINY)
        c = pulled @ (c @ centred) / centred.shape[1]
    norm = force(metric, settings.version, c[:, None]).norm()
    return torch.where(norm > 0, c / norm.clamp(min=_TINY), 0.0)


def see(
    state: LengthLearning, transition: Transition, versions: Tensor, settings: Settings
) -> LengthLearning:
    """Keep the trajectories that have ended, of chains that use the newest metric."""
    assert transition.proposal is not None, "the kernel's trajectories have no ends"
    start, end, momentum = transition.proposal
    duration = transition.n_steps * transition.step_size
    along = (state.projection @ start, state.projection @ end, state.direction @ momentum)
    # An end that is never accepted may lie anywhere, at infinity too.
    counts = (transition.acceptance_rate > 0) & torch.stack(along).isfinite().all(0)
    seen = Latest(
        *(torch.where(counts, part, 0.0) for part in along),
        duration=duration,
        weight=torch.where(counts, transition.acceptance_rate, 0.0),
    )
    current = transition.done & (versions == settings.version)
    pairs = zip(seen, state.latest, strict=True)
    return state._replace(
        latest=Latest(*(torch.where(current, new, old) for new, old in pairs)),
    )


def length_gradient(latest: Latest, center: Tensor) -> Tensor:
    """dC / dlog t, the weighted mean over trajectories."""
    start, end = latest.start - center, latest.end - center
    gradient = latest.duration * (end.square() - start.square()) * end * latest.momentum
    return (latest.weight * gradient).sum() / latest.weight.sum()


def update_length(
    state: LengthLearning, voters: Tensor, *, shortest: float, longest: float
) -> LengthLearning:
    """One step of Adam, from the latest trajectories of the chains that count [chains].

    :param shortest, longest: bounds on the length.
    """
    counting = voters & state.arrived
    latest = Latest(*(part[counting].double().cpu() for part in state.latest))
    # The first to end in a new window are the short ones: wait for all.
    told = bool((latest.duration > 0).all()) and bool(latest.weight.sum() > 0)
    if not told or not bool(state.direction.any()):
        return state
    count = state.num_updates + 1
    off = latest.start - state.center
    center = state.center + _NEW * off.mean()
    spread = state.spread + _NEW * (off.abs().median() - state.spread)
    gradient = length_gradient(latest, center)
    moment = _BETA1 * state.moment + (1 - _BETA1) * gradient
    square = _BETA2 * state.square + (1 - _BETA2) * gradient.square()
    size = (square / (1 - _BETA2**count)).sqrt().clamp(min=_TINY)
    change = _RATE / count.sqrt() * moment / (1 - _BETA1**count) / size
    longest = min(longest, _BEYOND * STANDARD_LENGTH * float(spread) / _MEDIAN_DISTANCE)
    low, high = math.log(shortest), math.log(max(shortest, longest))
    log_length = (state.log_length + change).clamp(low, high)
    weight = 3 / (count + 2)
    log_average = (1 - weight) * state.log_average + weight * log_length
    return state._replace(
        log_length=log_length,
        log_average=log_average,
        moment=moment,
        square=square,
        num_updates=count,
        center=center,
        spread=spread,
    )
