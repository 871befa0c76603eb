"""An estimate of log Z as ArviZ data: draws by their weights, and how the annealing went.

The group ``annealing`` holds, by inverse temperature, ``beta`` and what the method met there:
``barrier`` of the step that ends there, ``acceptance`` of the move made there, ``ess`` of the
weights on arrival, ``mean_slope``; NaN where there was no such step or move. By particle it holds
``log_weight``, and by draw of the target that was annealed backwards ``work_backward``; of a method
between draws of two densities also ``work_forward``. The other groups are those of an MCMC run,
with one chain of draws taken in proportion to their weights. Attributes carry the estimate itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.inference_data import to_inference_data
from pyro_ebm.mcmc.api.export import Parts, build_groups
from pyro_ebm.mcmc.api.folder import ESTIMATE_GROUP
from pyro_ebm.mcmc.api.inputs import as_array
from pyro_ebm.mcmc.api.record import RunRecord

from .weights import systematic_resampling

if TYPE_CHECKING:
    from .log_z import LogZ

# What is known of the density that a step starts from, not of that it ends at.
_AT_START = ("mean_slope",)


def to_arviz(estimate: LogZ) -> Any:
    """The estimate as InferenceData, or DataTree from ArviZ 1."""
    parts = parts_of(estimate)
    return to_inference_data(
        parts.groups,
        dims=parts.dims,
        coords=parts.coords,
        attrs=parts.attrs,
        plain_groups=(ESTIMATE_GROUP,),
    )


def parts_of(estimate: LogZ, *, draws: bool = True, pointwise: bool = True) -> Parts:
    """The groups of an estimate as plain arrays.

    :param draws: the groups that need the model evaluated at draws.
    :param pointwise: log likelihoods and log priors among them.
    """
    attributes = _attributes(estimate)
    drawn = _drawn(estimate, attributes, pointwise) if draws else None
    drawn = drawn or Parts({}, {}, {}, {})
    contents, axes = _annealing(estimate)
    return Parts(
        {**drawn.groups, ESTIMATE_GROUP: contents},
        {**drawn.dims, **{f"{ESTIMATE_GROUP}/{name}": (axis,) for name, axis in axes.items()}},
        drawn.coords,
        {**drawn.attrs, **attributes},
    )


def _attributes(estimate: LogZ) -> dict[str, Any]:
    details = {
        name: value for name, value in estimate.details.items() if not isinstance(value, Tensor)
    }
    back = estimate.backward
    backwards = {}
    if back is not None:
        backwards = {
            "upper": back.upper,
            "upper_error": back.upper_error,
            "bennett": back.bennett,
            "bennett_error": back.bennett_error,
            "reverse_exact": back.exact,
        }
    return {
        "inference_library": "pyro_ebm",
        **details,
        **backwards,
        "log_z": estimate.log_z,
        "std_error": estimate.std_error,
        "method": estimate.method,
        "reliable": estimate.reliable,
        "why": estimate.why,
        "ess": estimate.ess,
        "khat": estimate.khat,
        "num_particles": estimate.num_particles,
    }


def _drawn(estimate: LogZ, attributes: Mapping[str, Any], pointwise: bool) -> Parts | None:
    """One chain of as many draws as the effective sample size, and the data of the model."""
    weights, positions, target = estimate.log_weights, estimate.positions, estimate.target
    if weights is None or positions is None or target is None:
        return None
    if not bool((weights > -torch.inf).any()):
        return None
    # Evenly through the particles, so that two exports are the same.
    chosen = systematic_resampling(weights.double(), 0.5)
    number = min(max(1, round(estimate.ess)), len(chosen))
    places = (torch.arange(number, device=chosen.device) * len(chosen)) // number
    chain = positions[:, chosen[places]].T[None]
    record = RunRecord(target, chain, {}, attrs={"seed": attributes.get("seed", 0)})
    return build_groups(record, log_likelihood=pointwise, log_prior=pointwise)


def _annealing(estimate: LogZ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays of the group by name, and the axis of each."""
    contents: dict[str, np.ndarray] = {}
    axes: dict[str, str] = {}

    def add(name: str, values: np.ndarray, axis: str) -> None:
        contents[name], axes[name] = values, axis

    for name, values in by_temperature(estimate.path).items():
        add(name, values, "temperature")
    if estimate.log_weights is not None:
        add("log_weight", as_array(estimate.log_weights.double()), "particle")
    forward = estimate.details.get("forward_works")
    if isinstance(forward, Tensor):
        add("work_forward", as_array(forward.double()), "proposal")
    if estimate.backward is not None:
        add("work_backward", as_array(estimate.backward.works.double()), "backward_draw")
    return contents, axes


def by_temperature(path: Mapping[str, list[float]]) -> dict[str, np.ndarray]:
    """What was met along a path, each array as long as ``beta``, with NaN where nothing was."""
    size = len(path.get("beta", ()))
    found = {}
    for name, values in path.items():
        whole = np.full(size, np.nan)
        first = 0 if name in _AT_START or len(values) == size else 1
        kept = np.asarray(values, dtype=float)[: size - first]
        whole[first : first + len(kept)] = kept
        found[name] = whole
    return found
