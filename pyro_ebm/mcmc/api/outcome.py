"""How a run has ended, in attributes and in words."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from ..run import Result


def outcome(result: Result, seconds: float) -> dict[str, Any]:
    """What is known of a run when it has ended."""
    return {
        "complete": result.error is None,
        "num_samples": result.draws.rows,
        "gradient_steps": 0 if result.state is None else result.state.num_steps,
        "warmup_gradient_steps": result.warmup_num_steps,
        "sampling_time": seconds,
    }


def tell(result: Result, num_samples: int) -> None:
    """Warn of an interrupt, and raise what else ended a run early."""
    if isinstance(result.error, KeyboardInterrupt):
        kept, notes = result.draws.complete, getattr(result.error, "__notes__", [])
        told = "Interrupted before the first draw of every chain" + ("." if notes else "")
        if kept:
            told = (
                f"Interrupted: {kept} of {num_samples} draws of every chain are kept, and marked "
                "as partial."
            )
        elif not notes:
            told += ": nothing is kept."
        # Of a run on disk they name its folder.
        warnings.warn(" ".join([told, *notes]), stacklevel=3)
    elif result.error is not None:
        raise result.error
    else:
        _warn_if_coarse(result)


def _warn_if_coarse(result: Result) -> None:
    """Float32 resolves a log density to about |log p| * 1.2e-7: too coarse beyond some 10^5."""
    log_density = result.draws.statistics["lp"]
    resolution = torch.finfo(log_density.dtype).eps * float(log_density.abs().median())
    if resolution > 0.05:
        warnings.warn(
            f"The log density is about {float(log_density.median()):.3g}, which "
            f"{log_density.dtype} resolves only to {resolution:.2g}: acceptance decisions are "
            "partly rounding error. "
            "Use torch.set_default_dtype(torch.float64), and data in float64.",
            stacklevel=4,
        )
