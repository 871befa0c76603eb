"""Arguments of MCMC that can be judged by themselves."""

from __future__ import annotations

from typing import Any

from .chees import ChEESHMC
from .kernels import HMC, NUTS


def check_kernel(kernel: Any) -> None:
    """Refuse what is no kernel of this package.

    :raises TypeError: Pyro's own kernels among others.
    """
    if not isinstance(kernel, NUTS | HMC | ChEESHMC):
        raise TypeError(
            "Expected a kernel of pyro_ebm (NUTS, HMC or ChEESHMC), got "
            f"{type(kernel).__module__}.{type(kernel).__name__}. Write "
            "pyro_ebm.NUTS(model) instead of pyro.infer.NUTS(model)."
        )


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number of at least ``least``.

    :raises ValueError: naming the argument.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value}.")
