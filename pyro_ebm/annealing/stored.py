"""An estimate as arrays: all that it is, and what a reader without the model is to see of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.mcmc.api.folder import ESTIMATE_FORMAT
from pyro_ebm.mcmc.checkpoint import Saved
from pyro_ebm.target import Target

from .export import parts_of
from .log_z import Backward, LogZ

# Behind a name of a group there is a slash; these have none.
_OF_ESTIMATE, _OF_BACKWARD = "estimate.", "backward."


def saved(estimate: LogZ) -> Saved:
    """The estimate with its groups of ArviZ.

    Where the model can no longer be evaluated at its draws, these are there in unconstrained
    coordinates only, and an attribute says so.
    """
    arrays: dict[str, np.ndarray] = {}
    about: dict[str, Any] = {"format": ESTIMATE_FORMAT, "backward": None}
    about["estimate"] = _split(estimate, _OF_ESTIMATE, arrays, without=("target", "backward"))
    if estimate.backward is not None:
        about["backward"] = _split(estimate.backward, _OF_BACKWARD, arrays)
    try:
        parts, failed = parts_of(estimate, pointwise=False), {}
    except Exception as error:
        parts = parts_of(estimate, draws=False)
        failed = {"no_draws": f"the model could not be evaluated at them: {error!r}"}
    for group, contents in parts.groups.items():
        arrays |= {f"{group}/{name}": value for name, value in contents.items()}
    about |= {
        "dims": {name: list(axes) for name, axes in parts.dims.items()},
        "coords": {name: np.asarray(labels).tolist() for name, labels in parts.coords.items()},
        "attrs": {"complete": True, **parts.attrs, **failed},
    }
    return Saved(arrays, about)


def restored(contents: Saved, target: Target) -> LogZ:
    """The estimate of which :func:`saved` made arrays, of this target."""

    def joined(about: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        tensors = {
            name.removeprefix(prefix): torch.from_numpy(array).to(target.device)
            for name, array in contents.arrays.items()
            if name.startswith(prefix)
        }
        return {**about, **tensors}

    about = contents.about
    backward = None
    if about["backward"] is not None:
        backward = Backward(**joined(about["backward"], _OF_BACKWARD))
    return LogZ(**joined(about["estimate"], _OF_ESTIMATE), target=target, backward=backward)


def _split(
    record: Any, prefix: str, arrays: dict[str, np.ndarray], *, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The fields of a record that JSON holds; its tensors go to ``arrays``."""
    found = {}
    for name in (field.name for field in fields(record) if field.name not in without):
        value = getattr(record, name)
        if isinstance(value, Tensor):
            arrays[prefix + name] = value.detach().cpu().numpy()
        else:
            found[name] = dict(value) if isinstance(value, Mapping) else value
    return found
