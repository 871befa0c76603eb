"""Which site of a model depends on which: what a reader without the model sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.infer.inspect import get_model_relations

from pyro_ebm.target.program import ModelProgram, Program

from .sites import Facts

_FACTOR = "factor"


def model_graph(program: Program, facts: Mapping[str, Facts]) -> dict[str, dict[str, Any]] | None:
    """By site its kind (:class:`.Facts`), distribution, plates, shape and parents, in values that
    JSON keeps; None where the model cannot be looked at."""
    relations = _relations(program)
    if relations is None:
        return None
    distributions, parents = relations
    return {
        name: {
            "kind": fact.kind,
            "distribution": _FACTOR if fact.kind == _FACTOR else distributions.get(name, ""),
            "plates": [plate.name for plate in fact.plates],
            "shape": list(fact.batch if fact.kind == _FACTOR else fact.shape),
            "parents": [parent for parent in parents.get(name, ()) if parent != name],
        }
        for name, fact in facts.items()
    }


def _relations(program: Program) -> tuple[dict[str, str], dict[str, list[str]]] | None:
    """Distributions and parents by site."""
    if not isinstance(program, ModelProgram):
        energy: Any = getattr(program, "energy", None)
        named = "energy" if energy is None else type(energy).__name__
        return {site.name: named for site in program.sites}, {}
    try:
        return _of_model(program)
    except Exception:  # whatever a model raises when its values carry their origins with them
        return None


def _of_model(program: ModelProgram) -> tuple[dict[str, str], dict[str, list[str]]]:
    model: Any = program.user_model
    with poutine.block(), torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        found = get_model_relations(model, program.args, dict(program.kwargs))
    return found["sample_dist"], found["sample_sample"]
