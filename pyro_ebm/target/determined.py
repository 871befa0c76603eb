"""Sites whose value other sites determine: they are neither latent nor data.

``pyro.deterministic`` says so itself. A Delta that is not observed takes its one value. A
reparametrised site stays in the model as an observed Delta at a value made of latent sites, and a
change of variables may come as that Delta's density, which then counts like a prior's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyro.distributions import Delta, MaskedDistribution
from pyro.distributions.torch_distribution import ExpandedDistribution
from torch import Tensor
from torch.distributions import Independent


def delta_of(fn: Any) -> Any:
    """The Delta behind masks, plates and reinterpreted dimensions, None for anything else."""
    while isinstance(fn, MaskedDistribution | ExpandedDistribution | Independent):
        fn = fn.base_dist
    return fn if isinstance(fn, Delta) else None


def find_determined(
    nodes: Mapping[str, Any], follow: Callable[..., dict[str, frozenset[str]]]
) -> tuple[frozenset[str], frozenset[str]]:
    """The determined sites of a trace, and those among them that have a density.

    :param nodes: the sample sites.
    :param follow: :meth:`.program.ModelProgram.dependencies`.
    """
    declared = {name for name, node in nodes.items() if node["infer"].get("_deterministic")}
    deltas = {
        name: node
        for name, node in nodes.items()
        if name not in declared and delta_of(node["fn"]) is not None
    }
    if not deltas:
        return frozenset(declared), frozenset()
    values = follow(deltas, _value, mapped=False)
    densities = follow(deltas, _log_density, mapped=False)
    determined = {n for n, node in deltas.items() if values[n] or not node["is_observed"]}
    weighing = {n for n in determined if densities[n] or bool((_log_density(deltas[n]) != 0).any())}
    return frozenset(declared | determined), frozenset(weighing)


def _value(node: Any) -> Tensor:
    return node["value"]


def _log_density(node: Any) -> Tensor:
    return delta_of(node["fn"]).log_density
