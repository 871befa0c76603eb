"""Gibbs sampling in blocks: sites that do not interact are drawn anew together.

A step draws every site of one block from its distribution given all other sites,

    p(x_i = k | rest) proportional to exp(changes[i, k]),

which is exact for a block of sites no two of which share a term of the energy. A transition is a
sweep: every block once, in order.

Source: Geman, Geman (1984), Stochastic relaxation, Gibbs distributions, and the Bayesian
restoration of images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .discrete import DiscreteState, LogDensityAndChanges, Proposed, advance, drawn, set_out, start
from .kernel import Kernel, Noise, Settings, Transition


def gibbs(blocks: Tensor, *, sweeps: int = 1) -> Kernel:
    """Block Gibbs sampling, by exact changes.

    :param blocks: the number of the block of each site [dim], from 0 on; sites of one block must
        not interact.
    :param sweeps: of a transition.
    :raises ValueError: numbers that leave one out.
    """
    if sweeps < 1:
        raise ValueError(f"sweeps must be at least 1, got {sweeps}.")
    num_blocks = int(blocks.max()) + 1
    if not torch.equal(blocks.unique().cpu(), torch.arange(num_blocks, device="cpu")):
        raise ValueError(f"expected blocks numbered from 0 on, got {blocks.unique().tolist()}.")

    def step(
        density: LogDensityAndChanges, state: DiscreteState, noise: Noise, settings: Settings
    ) -> tuple[DiscreteState, Transition]:
        state = set_out(state, settings)
        inside = blocks.to(state.n_steps.device)[:, None] == state.n_steps % num_blocks
        anew = drawn(state.changes, noise.uniform)
        position = torch.where(inside, anew, state.position)
        new = Proposed(position, *density(position), torch.zeros_like(state.log_density))
        always = torch.ones_like(state.fresh)
        rate = torch.ones_like(state.log_density)
        return advance(state, new, always, rate, num_steps=sweeps * num_blocks)

    return Kernel(start, step, uniforms=len(blocks), normals=False)
