"""What a frozen model knows of its sites beside their values: shapes, plates, normalisers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from pyro.distributions import ImproperUniform
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor

from pyro_ebm.shapes import joint_shape
from pyro_ebm.target.discrete import DiscreteProgram
from pyro_ebm.target.layout import PlateFrame, vectorised_plates
from pyro_ebm.target.masked import counted_points, counts, is_masked
from pyro_ebm.target.program import ModelProgram, Program
from pyro_ebm.target.simple_programs import EnergyProgram


class Facts(NamedTuple):
    """One site. ``kind`` is latent, discrete (summed out), deterministic, observed or factor.

    Deterministic is every site whose value others determine, reparametrised ones and deltas too.
    ``batch`` is its batch shape without enumerated axes; ``value`` the data of an observed site,
    of its full shape; ``counted`` [*batch] which of its points are data, where a mask that depends
    on no other site takes some out.
    """

    kind: str
    batch: torch.Size
    event: torch.Size
    plates: tuple[PlateFrame, ...] = ()
    normalised: bool = True
    scaled: bool = False
    masked: bool = False
    value: Tensor | None = None
    counted: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """The batch and the event."""
        return self.batch + self.event


def site_facts(program: Program) -> dict[str, Facts]:
    """The facts of every site of a program, in the order in which the model meets them."""
    if isinstance(program, ModelProgram):
        return {
            name: _facts(program, name, node)
            for name, node in cast(Mapping[str, Any], program.first_trace.nodes).items()
            if node["type"] == "sample" and not site_is_subsample(node)
        }
    normalised = not isinstance(program, EnergyProgram | DiscreteProgram)
    return {
        site.name: Facts("latent", torch.Size(), site.shape, normalised=normalised)
        for site in program.sites
    }


def _facts(program: ModelProgram, name: str, node: Any) -> Facts:
    fn = node["fn"]
    plates = vectorised_plates(node["cond_indep_stack"])
    batch = fn.batch_shape
    if program.marginalised:
        # Enumerated axes lie left of all plates, and what lies in none is not allowed beside them.
        batch = batch[len(batch) - max((-plate.dim for plate in plates), default=0) :]
    kind = _kind(program, name, node)
    if kind == "observed":
        # As in Pyro, data outside of a plate may have more dimensions than their distribution.
        value = torch.as_tensor(node["value"])
        batch = joint_shape(batch, value.shape[: value.dim() - fn.event_dim])
    facts = Facts(
        kind=kind,
        batch=batch,
        event=fn.event_shape,
        plates=plates,
        normalised=_is_normalised(node),
        scaled=isinstance(node["scale"], Tensor) or node["scale"] != 1,
        masked=is_masked(node),
    )
    if facts.kind == "observed":
        return facts._replace(
            value=torch.as_tensor(node["value"]).expand(facts.shape),
            counted=_counted(program, name, node, batch) if facts.masked else None,
        )
    return facts


def _counted(program: ModelProgram, name: str, node: Any, batch: torch.Size) -> Tensor | None:
    """Which points of an observed site its mask leaves; None where that is no fixed choice."""
    try:
        parents = program.dependencies([name], counts)[name]
    except Exception:  # vmap raises whatever the model's operations raise
        return None
    if parents:
        return None
    points = counted_points(node)
    return points.expand(joint_shape(points.shape, batch)).reshape((-1, *batch))[0]


def _kind(program: ModelProgram, name: str, node: Any) -> str:
    if name in program.determined:
        return "deterministic"
    if site_is_factor(node):
        return "factor"
    if node["is_observed"]:
        return "observed"
    return "discrete" if name in program.marginalised else "latent"


def _is_normalised(node: Any) -> bool:
    """Whether the site's log probability holds its normaliser, as far as it says."""
    if site_is_factor(node):
        return False
    fn = node["fn"]
    while True:
        if isinstance(fn, ImproperUniform) or not getattr(fn, "normalized", True):
            return False
        if not hasattr(fn, "base_dist"):
            return True
        fn = fn.base_dist
