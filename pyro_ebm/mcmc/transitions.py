"""The same number of transitions for every chain, outside of a run: for annealing and learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .kernel import Kernel, Noise


class Moved(NamedTuple):
    """Positions [dim, n] after a transition, and its acceptance rate [n]."""

    positions: Tensor
    acceptance: Tensor


def one_transition(
    kernel: Kernel,
    advance: Callable[[Any, Noise], tuple[Any, Any]],
    chain: Any,
    positions: Tensor,
    generator: torch.Generator,
) -> Moved:
    """Every chain after its next transition: one that is done early goes on, and its further way is
    forgotten.

    :param advance: the kernel's step, ``(chain, noise) -> (chain, transition)``.
    :param chain: the state of the chains, all of them at the start of a transition.
    :param positions: [dim, chains], which belong to it.
    """
    dim, chains = positions.shape
    kind = {"generator": generator, "dtype": positions.dtype, "device": positions.device}
    acceptance = positions.new_zeros(chains)
    waiting = torch.ones(chains, dtype=torch.bool, device=positions.device)
    while bool(waiting.any()):
        if kernel.normals:
            normal = torch.randn(dim, chains, **kind)
        else:
            normal = torch.randint(2**62, (), generator=generator, device=positions.device)
        noise = Noise(normal, torch.rand(kernel.uniforms, chains, **kind))
        chain, transition = advance(chain, noise)
        first = waiting & transition.done
        positions = torch.where(first, transition.position, positions)
        acceptance = torch.where(first, transition.acceptance_rate, acceptance)
        waiting = waiting & ~transition.done
    return Moved(positions, acceptance)
