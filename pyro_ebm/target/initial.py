"""Where chains start: Pyro's init strategies, without asking a site for a sample it cannot give.

Pyro's own strategies call ``fn.sample()`` even when only a shape is wanted; an improper or
unnormalised site has none. Here the strategies that need no sample (uniform, feasible) are done in
unconstrained space for all starting points at once, and the others run the model once per point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pyro.infer.autoguide.initialization import (
    InitMessenger,
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_uniform,
    init_to_value,
)
from torch import Tensor

from pyro_ebm.shapes import unconstrained_shape

from .discrete import DiscreteProgram
from .program import ModelProgram, Program, Side
from .side import NO_SIDE
from .vectorize import BatchedDensity

MAX_TRIES = 100
# Random states whose energies are looked at before a few of them become starts.
_LOOKED_AT = 64


def init_positions(
    program: Program,
    density: BatchedDensity,
    num_points: int,
    *,
    strategy: Callable,
    generator: torch.Generator,
    like: Tensor,
    side: Side,
) -> Tensor:
    """Starting positions [dim, num_points] with a finite log density and gradient.

    :param density: the batched log density, untraced, for any number of points.
    :param strategy: one of Pyro's init strategies, or any ``strategy(site) -> value``.
    :param like: gives dtype and device.
    :raises ValueError: when no finite point is found in 100 tries; says what was found instead.
    """
    positions = _propose(program, num_points, strategy, generator, like)
    tries = 1
    while True:
        value, gradient = density(positions, side)
        good = value.isfinite() & gradient.isfinite().all(0)
        if bool(good.all()):
            return positions
        if tries == MAX_TRIES:
            raise ValueError(_no_start(value, gradient, good))
        fresh = _propose(program, num_points, strategy, generator, like)
        positions = torch.where(good, positions, fresh)
        tries += 1


def discrete_positions(
    program: DiscreteProgram, num_points: int, *, generator: torch.Generator, side: Side
) -> Tensor:
    """Random states [dim, num_points] that the density does not rule out.

    :raises ValueError: when none are found in 100 tries; a log density of +inf, or none at all.
    """
    if side is NO_SIDE:
        # Of its own, so that a look changes no start.
        looking = torch.Generator(generator.device).manual_seed(_LOOKED_AT)
        looked = program.starts(_LOOKED_AT, looking)
        check_log_densities(program.terms(looked.T).log_density)
    positions = program.starts(num_points, generator)
    tries = 1
    while True:
        value = program.terms(positions.T, side).log_density
        check_log_densities(value)
        good = value.isfinite()
        if bool(good.all()):
            return positions
        if tries == MAX_TRIES:
            raise ValueError(
                f"No start was found for {int((~good).sum())} of {num_points} chains in "
                f"{MAX_TRIES} tries: random states have a log density of "
                f"{float(value[~good][0])}. Give initial_params= with allowed configurations."
            )
        positions = torch.where(good, positions, program.starts(num_points, generator))
        tries += 1


def check_log_densities(value: Tensor) -> None:
    """Refuse energies of states that are neither finite nor +inf.

    :param value: log densities of random states.
    :raises ValueError: such energies.
    """
    for wrong, name, why in (
        (value == torch.inf, "-inf", "they would have all probability"),
        (value.isnan(), "NaN", "they have no probability that could be told"),
    ):
        if bool(wrong.any()):
            raise ValueError(
                "expected energies that are finite, or +inf where a configuration is ruled out, "
                f"got {name} at {int(wrong.sum())} of {len(value)} random states: {why}. Check the "
                "energy's sign, its logarithms and its divisions."
            )


def _no_start(value: Tensor, gradient: Tensor, good: Tensor) -> str:
    bad = ~good
    if bool(value[bad].isnan().any()):
        what = "the log density is NaN"
    elif bool((value[bad] == -torch.inf).any()):
        what = "the log density is -inf (the point has probability zero)"
    elif bool((value[bad] == torch.inf).any()):
        what = "the log density is +inf"
    else:
        what = f"the gradient is not finite in {int((~gradient[:, bad].isfinite()).sum())} entries"
    return (
        f"No start was found for {int(bad.sum())} of {bad.numel()} chains in {MAX_TRIES} tries: "
        f"{what}. Check the model at the values the strategy proposes, give init_strategy= (for "
        "example pyro.infer.autoguide.init_to_value) or initial_params=, or make the energy finite "
        "on the whole of the declared support."
    )


def _propose(
    program: Program,
    num_points: int,
    strategy: Callable,
    generator: torch.Generator,
    like: Tensor,
) -> Tensor:
    dim = sum(site.size for site in program.sites if site.states is None)
    radius = _uniform_radius(strategy)
    if radius is not None or dim == 0:
        unit = torch.rand(
            (dim, num_points), generator=generator, dtype=like.dtype, device=like.device
        )
        proposed = (2 * unit - 1) * (radius or 0.0)
    else:
        columns = [_one_start(program, strategy, generator) for _ in range(num_points)]
        proposed = torch.stack(columns, dim=1).to(dtype=like.dtype, device=like.device)
    if not isinstance(program, ModelProgram) or not program.sampled:
        return proposed
    return torch.cat([proposed, program.random_states(num_points, generator, proposed)])


def _one_start(program: Program, strategy: Callable, generator: torch.Generator) -> Tensor:
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))

    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        settled = _settled(strategy)
        return program.start(lambda site: _choose(site, settled))


def _settled(strategy: Callable) -> Callable:
    """The strategy of one start: what generates strategies is asked once, for all sites."""
    function, keywords = _unpack(strategy)
    if function is init_to_generated:
        return _settled(keywords["generate"]())
    if function is init_to_value and keywords.get("fallback") is not None:
        return partial(function, **{**keywords, "fallback": _settled(keywords["fallback"])})
    return strategy


def _choose(site: dict, strategy: Callable) -> Tensor:
    """The unconstrained start of one site under a strategy of Pyro's."""
    transform = site["transform"]
    function, keywords = _unpack(strategy)
    shape = unconstrained_shape(transform, site["fn"].shape())
    radius = _uniform_radius(strategy)
    if radius is not None:
        return (2 * torch.rand(shape) - 1) * radius
    if function is init_to_feasible:
        return torch.zeros(shape)
    if function is init_to_value:
        if site["name"] in keywords.get("values", {}):
            return _inverse(transform, keywords["values"][site["name"]], site)
        return _choose(site, keywords.get("fallback", init_to_uniform))
    try:
        # Under this messenger an energy knows that only a start is wanted of its sample().
        with InitMessenger(strategy):
            value = strategy(site)
        return _inverse(transform, value, site)
    except NotImplementedError:
        fallback = (
            init_to_feasible if function in (init_to_mean, init_to_median) else init_to_uniform
        )
        return _choose(site, fallback)


def _inverse(transform: Any, value: Any, site: dict) -> Tensor:
    value = torch.as_tensor(value).expand(site["fn"].shape())
    unconstrained = transform.inv(value)
    if not bool(unconstrained.isfinite().all()):
        raise ValueError(
            f"The start given for site '{site['name']}' lies outside of, or on the border of, its "
            f"support {site['fn'].support}: {value.tolist()}."
        )
    return unconstrained


def _unpack(strategy: Callable) -> tuple[Callable, dict]:
    """A strategy of Pyro's and the keywords that functools.partial gave it."""
    if isinstance(strategy, partial):
        return strategy.func, strategy.keywords
    if type(strategy).__name__ == "_InitToGenerated":
        generated: Any = strategy
        return init_to_generated, {"generate": generated.generate}
    return strategy, {}


def _uniform_radius(strategy: Callable) -> float | None:
    function, keywords = _unpack(strategy)
    return float(keywords.get("radius", 2.0)) if function is init_to_uniform else None
