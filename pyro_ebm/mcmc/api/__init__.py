"""Sampling as Pyro's users write it: kernels and MCMC in, ArviZ data and a diagnosis out."""

from .auto_kernel import auto_kernel as auto_kernel
from .chees import ChEESHMC as ChEESHMC
from .diagnose_data import diagnose_data as diagnose_data
from .discrete_kernels import DiscreteLangevin as DiscreteLangevin
from .discrete_kernels import Gibbs as Gibbs
from .discrete_kernels import GibbsWithGradients as GibbsWithGradients
from .discrete_kernels import PathAuxiliary as PathAuxiliary
from .discrete_kernels import SwendsenWang as SwendsenWang
from .elliptical_slice import EllipticalSlice as EllipticalSlice
from .exchange import Exchange as Exchange
from .export import build_groups as build_groups
from .from_store import from_store as from_store
from .kernels import HMC as HMC
from .kernels import NUTS as NUTS
from .langevin import Langevin as Langevin
from .mcmc import MCMC as MCMC
from .record import RunRecord as RunRecord
from .sample import sample as sample
from .stopping import UntilESS as UntilESS

__all__ = [
    "HMC",
    "MCMC",
    "NUTS",
    "ChEESHMC",
    "DiscreteLangevin",
    "EllipticalSlice",
    "Exchange",
    "Gibbs",
    "GibbsWithGradients",
    "Langevin",
    "PathAuxiliary",
    "RunRecord",
    "SwendsenWang",
    "UntilESS",
    "auto_kernel",
    "build_groups",
    "diagnose_data",
    "from_store",
    "sample",
]
