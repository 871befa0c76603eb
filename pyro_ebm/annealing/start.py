"""What every run along a path begins with: the target, its seed, and a base that was looked at."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from pyro_ebm.target import Target
from pyro_ebm.target.initial import check_log_densities

from .dispersed import Dispersed, disperse
from .dispersed_states import disperse_states
from .given import given_base
from .log_z import LogZ
from .loop import once
from .moves import DiscreteMoves, Moves
from .path import Base, geometric
from .pilot import Pilot, pilot
from .progress import Stages
from .rays import grows_along_rays
from .same_base import check_same_base
from .search import search
from .states import independent_sites
from .verdict import sentence, support_problems, weight_problems

# Draws of a base over states whose energies are looked at.
_LOOKED_AT = 256


class Start(NamedTuple):
    """A target, a pilot from the base to it, and what has already come to light against it.

    ``dispersed`` are chains from dispersed starts, where they were asked for or searched with.
    """

    target: Target
    generator: torch.Generator
    pilot: Pilot
    dispersed: Dispersed | None
    problems: list[str]
    details: dict[str, Any]


class Wanted(NamedTuple):
    """What a user has asked for: a model, a base or "auto", moves, and particles of a pilot.

    ``disperse`` asks for chains from dispersed starts where the base is given, too.
    """

    model: Any
    base: Any
    moves: Moves
    num_particles: int
    method: str
    disperse: bool = False


def check_base(base: Any) -> None:
    """Refuse words other than "auto".

    :raises ValueError: such a word.
    """
    if isinstance(base, str) and base != "auto":
        raise ValueError(f'expected base to be "auto" or an object, got the string {base!r}.')


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number, or too small a one.

    :raises ValueError: such a value.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f"expected {name} to be a whole number of at least {least}, got {value!r}."
        )


def check_moves(moves: Any) -> None:
    """Refuse what are no moves.

    :raises TypeError: such a thing.
    """
    if not isinstance(moves, Moves):
        raise TypeError(
            f"expected moves to be HMCMoves(), NUTSMoves() or DiscreteMoves(), got {moves!r}."
        )


def start(
    target: Target,
    wanted: Wanted,
    args: tuple,
    kwargs: dict[str, Any],
    stages: Stages,
    *,
    seed: int,
) -> Start | LogZ:
    """Find a base and look along the path; a result where nothing can be estimated.

    :param target: the model frozen with these arguments.
    :raises ValueError: when no start can be found.
    """
    generator = torch.Generator(target.device).manual_seed(seed)
    if target.num_states is not None:
        return _over_states(target, wanted, generator, {"seed": seed}, stages)
    growing = grows_along_rays(target, generator)
    if growing is not None:
        return LogZ(math.nan, math.inf, wanted.method, False, growing + ".", target=target)
    details: dict[str, Any] = {"seed": seed, "dtype": str(target.dtype)}
    dispersed: Dispersed | None = None
    number = wanted.num_particles
    if isinstance(wanted.base, str) or wanted.disperse:
        stages.begin("chains")
        dispersed = stages.run(once(Dispersed, generator, lambda: disperse(target, generator)))
    stages.begin("base")
    if isinstance(wanted.base, str):
        assert dispersed is not None
        choice = search(target, wanted.moves, dispersed, number, generator, run=stages.run)
        chosen = choice.chosen
        details["considered"] = [candidate._asdict() for candidate in choice.considered]
    else:
        base = given_base(target, wanted.base, args, kwargs)
        if stages.are_kept:
            check_same_base(base, generator, stages.run)
        chosen = pilot(geometric(target, base), wanted.moves, number, generator, run=stages.run)
    details["base"] = chosen.description
    problems = _support(target, chosen, number, generator)
    weights = chosen.learned.finished.log_weights
    if not bool((weights > -torch.inf).any()):
        problems += weight_problems(weights, math.nan)
        return LogZ(
            -math.inf,
            math.inf,
            wanted.method,
            reliable=False,
            why=sentence(problems, checked_backwards=False),
            ess=0.0,
            num_particles=len(weights),
            log_weights=weights,
            target=target,
            details=details,
        )
    return Start(target, generator, chosen, dispersed, problems, details)


def _over_states(
    target: Target,
    wanted: Wanted,
    generator: torch.Generator,
    details: dict[str, Any],
    stages: Stages,
) -> Start:
    """The same over the states of a discrete target, from independent sites unless given.

    :raises TypeError: a base that is no such.
    :raises ValueError: energies of states that are -inf or NaN.
    """
    base = independent_sites(target) if isinstance(wanted.base, str) else wanted.base
    if not isinstance(base, Base):
        raise TypeError(
            'expected base to be "auto" or independent_sites(target, log_probabilities), got '
            f"{type(base).__name__}."
        )
    if stages.are_kept:
        check_same_base(base, generator, stages.run)
    moves = wanted.moves if isinstance(wanted.moves, DiscreteMoves) else DiscreteMoves()
    stages.begin("base")
    path = geometric(target, base)
    # Of its own, so that a look changes no draw.
    looking = torch.Generator(target.device).manual_seed(_LOOKED_AT)
    check_log_densities(target.evaluate(path.sample(_LOOKED_AT, looking).T).log_density)
    chosen = pilot(path, moves, wanted.num_particles, generator, run=stages.run)
    details |= {"base": chosen.description, "dtype": str(target.dtype)}
    stages.begin("chains")
    mover, tuning = chosen.mover, chosen.learned.tuning
    found = partial(disperse_states, target, mover, tuning, generator)
    dispersed = stages.run(once(Dispersed, generator, found))
    return Start(target, generator, chosen, dispersed, [], details)


def _support(target: Target, chosen: Pilot, number: int, generator: torch.Generator) -> list[str]:
    """What the target is at fresh draws of the base."""
    drawn = chosen.mover.path.sample(number, generator)
    inside = drawn.isfinite().all(0)
    if not bool(inside.any()):
        return []
    value, _ = target.recorded(drawn[:, inside])
    return support_problems(value, drawn[:, inside])
