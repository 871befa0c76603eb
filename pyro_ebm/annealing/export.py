"""An estimate of log Z as ArviZ data: weighted draws, and how the annealing went.

The group ``annealing`` holds, by temperature, ``beta``, ``barrier``, ``acceptance`` and ``ess``,
and by particle ``log_weight`` and, where draws were annealed backwards, ``work_backward``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .log_z import LogZ


def to_arviz(estimate: LogZ) -> Any:
    """The estimate as InferenceData, or DataTree from ArviZ 1."""
    raise NotImplementedError
