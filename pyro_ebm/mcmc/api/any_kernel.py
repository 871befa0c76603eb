"""The kernels that MCMC takes."""

from __future__ import annotations

from typing import Any

from .chees import ChEESHMC
from .discrete_kernels import (
    DiscreteLangevin,
    Gibbs,
    GibbsWithGradients,
    PathAuxiliary,
    SwendsenWang,
)
from .elliptical_slice import EllipticalSlice
from .exchange import Exchange
from .kernels import HMC, NUTS
from .langevin import Langevin

AnyKernel = (
    NUTS
    | HMC
    | Langevin
    | ChEESHMC
    | EllipticalSlice
    | Gibbs
    | GibbsWithGradients
    | PathAuxiliary
    | DiscreteLangevin
    | SwendsenWang
    | Exchange
)


def check_kernel(kernel: Any) -> None:
    """Refuse what is no kernel of this package.

    :raises TypeError: Pyro's own kernels among others.
    """
    if not isinstance(kernel, AnyKernel):
        raise TypeError(
            "Expected a kernel of pyro_ebm (NUTS, HMC, Langevin, ChEESHMC or EllipticalSlice; "
            "Gibbs, GibbsWithGradients, PathAuxiliary, DiscreteLangevin or SwendsenWang for "
            "discrete energies; Exchange for unknown parameters of an observed energy), got "
            f"{type(kernel).__module__}.{type(kernel).__name__}. Write "
            "pyro_ebm.NUTS(model) instead of pyro.infer.NUTS(model)."
        )
