"""Which kernel suits a model, read off its structure, with the reason in a sentence."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram, is_discrete

from ..couplings import binary_pairs, ferromagnet
from .discrete_kernels import (
    DiscreteKernel,
    DiscreteLangevin,
    Gibbs,
    PathAuxiliary,
    SwendsenWang,
    discrete_target,
)
from .kernels import NUTS

_WHY_NUTS = "NUTS: what is continuous has a gradient."
# Steps of a sweep in torch, an evaluation each, that are still worth it.
_MOST_BLOCKS = 64


def auto_kernel(model: Any) -> Any:
    """Choose a kernel for MCMC.

    A ferromagnet gets SwendsenWang; another discrete energy Gibbs where a sweep is cheap: pairs of
    two states, which are swept in C, or few blocks of sites that do not interact. What is left gets
    proposals that move many sites by one look at all: PathAuxiliary where changes are exact, and
    DiscreteLangevin where they are guessed from a gradient. What is continuous gets NUTS, as do
    Pyro models, whose discrete sites it sums out or samples.

    :param model: what kernels take: an Energy, an EnergyDistribution, a Target or a Pyro model.
    :returns: the kernel, with the reason in its attribute ``why``. A run keeps it among its
        attributes.

    >>> import pyro_ebm as ebm
    >>> auto_kernel(ebm.Ising.lattice((8, 8))).why
    'SwendsenWang: all bonds attract, so that clusters turn at once.'
    """
    if not _is_discrete(model):
        kernel: Any = NUTS(model)
        kernel.why = _WHY_NUTS
        return kernel
    target = discrete_target(model)
    kernel, reason = _chosen(target)
    kernel.why = f"{type(kernel).__name__}: {reason}"
    return kernel


def _is_discrete(model: Any) -> bool:
    if isinstance(model, Target):
        return model.num_states is not None
    energy = isinstance(model, Energy) or hasattr(model, "energy")
    return energy and is_discrete(getattr(model, "support", None))


def _chosen(target: Target) -> tuple[DiscreteKernel, str]:
    program = target.program
    assert isinstance(program, DiscreteProgram)
    if _is_ferromagnet(target):
        return SwendsenWang(target), "all bonds attract, so that clusters turn at once."
    if binary_pairs(target) is not None:
        return Gibbs(target), "two states in pairs, which are swept in C."
    blocks: Tensor = program.blocks
    number = int(blocks.max()) + 1
    if target.exact_changes and number <= _MOST_BLOCKS:
        return Gibbs(target), f"a sweep takes {number} blocks of sites that do not interact."
    if target.exact_changes:
        return PathAuxiliary(target), f"a sweep of Gibbs would take {number} steps."
    return DiscreteLangevin(target), "changes are guessed from a gradient, for all sites at once."


def _is_ferromagnet(target: Target) -> bool:
    try:
        found = ferromagnet(target)
    except ValueError:
        return False
    return bool(found.strengths.any())
