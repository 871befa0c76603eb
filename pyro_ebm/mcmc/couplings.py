"""What samplers can make of an energy of pairs: log odds of two states, or a ferromagnet."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.target import Target
from pyro_ebm.target.discrete import DiscreteProgram

from .swendsen_wang import Ferromagnet


class BinaryPairs(NamedTuple):
    """log p = sum_i x_i offsets_i + sum over pairs of weights x_i x_j + constant, x in {0, 1}.

    ``pairs`` are [m, 2], ``weights`` [m], ``offsets`` [dim].
    """

    pairs: Tensor
    weights: Tensor
    offsets: Tensor
    constant: float


def binary_pairs(target: Target) -> BinaryPairs | None:
    """The log density of a target as one of pairs over two states; None where it is not one."""
    program = target.program
    if not isinstance(program, DiscreteProgram) or program.num_states != 2 or program.one_hot:
        return None
    bonds = program.bonds
    if bonds is None:
        return None
    strengths, fields = bonds.strengths.double(), bonds.fields.double()
    around = torch.zeros(program.dim, dtype=torch.double, device=fields.device)
    around.index_add_(0, bonds.pairs.reshape(-1), strengths.repeat_interleave(2))
    if fields.dim() == 2:
        # [a = b] = 1 - a - b + 2 a b.
        weights, offsets = 2 * strengths, fields[:, 1] - fields[:, 0] - around
    elif program.spins:
        # a b with a = 2 x - 1.
        weights, offsets = 4 * strengths, 2 * fields - 2 * around
    else:
        weights, offsets = strengths, fields
    origin = torch.zeros(1, program.dim, dtype=target.dtype, device=target.device)
    constant = float(program.terms(origin).log_joint[0].detach())
    return BinaryPairs(bonds.pairs, weights, offsets, constant)


def ferromagnet(target: Target) -> Ferromagnet:
    """The target as one of bonds that all want equal sites, in a field that lifts one state.

    :raises ValueError: it is not, saying why.
    """
    program = target.program
    bonds = program.bonds if isinstance(program, DiscreteProgram) else None
    if not isinstance(program, DiscreteProgram) or bonds is None:
        raise ValueError(
            "expected an Ising or Potts model, whose bonds make clusters, got "
            f"{_name(target)}. Use Gibbs."
        )
    potts = bonds.fields.dim() == 2
    if not potts and not program.spins:
        raise ValueError(
            f"expected spins -1 and +1, got {_name(target)} on units 0 and 1, which its weights "
            "do not make equal. Write it as an Ising model, or use Gibbs."
        )
    if bool((bonds.strengths < 0).any()):
        raise ValueError(
            f"expected couplings of at least 0, so that bonds make neighbours equal, got some "
            f"below in {_name(target)}: clusters would be frustrated. Use Gibbs."
        )
    if potts:
        excess = bonds.fields - bonds.fields.amin(1, keepdim=True)
        strengths = bonds.strengths
    else:
        excess = 2 * torch.stack([-bonds.fields, bonds.fields], 1).clamp(min=0.0)
        strengths = 2 * bonds.strengths
    lifted = (excess > 0).nonzero()
    states = lifted[:, 1].unique()
    if len(states) > 1:
        raise ValueError(
            f"expected a field that lifts one state, the same at every site, got one of "
            f"{len(states)} states in {_name(target)}. Use Gibbs."
        )
    state = int(states[0]) if len(states) else 0
    return Ferromagnet(bonds.pairs, strengths, excess[:, state], state, program.num_states)


def _name(target: Target) -> str:
    energy = getattr(target.program, "energy", None)
    return "a model without an energy" if energy is None else type(energy).__name__
