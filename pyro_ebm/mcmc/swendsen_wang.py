"""Swendsen-Wang: whole clusters of equal sites change at once, where sites want to be equal.

With an energy of pairs of which every one lowers the energy when its sites are equal,

    p(x) proportional to exp(sum over bonds of K_ij [x_i = x_j] + fields),   K_ij >= 0,

a bond of equal sites is closed with probability 1 - exp(-K_ij), and the clusters that closed bonds
make up take a new state each, all sites the same: at once for all clusters of all chains. Near a
critical point it goes on where single sites slow down.

A field is a bond to a ghost, one more site: a state k of site i that the field lifts above all
others by F_i is tied to it by a bond of that strength, and the cluster of the ghost keeps its
state. That takes a field that lifts one state, the same at every site that has one.

Source: Swendsen, Wang (1987), Nonuniversal critical dynamics in Monte Carlo simulations; Edwards,
Sokal (1988), Generalization of the Fortuin-Kasteleyn-Swendsen-Wang representation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .discrete import DiscreteState, LogDensityAndChanges, Proposed, advance, set_out, start
from .kernel import Kernel, Noise, Settings, Transition


class Ferromagnet(NamedTuple):
    """Bonds [m, 2] with K >= 0 [m], and the field of each site [dim] that lifts one state.

    ``lifted`` is that state, which the ghost is in.
    """

    pairs: Tensor
    strengths: Tensor
    fields: Tensor
    lifted: int
    num_states: int


def swendsen_wang(model: Ferromagnet) -> Kernel:
    """Swendsen-Wang cluster updates of all sites; a step is a transition."""
    dim, states = len(model.fields), model.num_states
    tied = model.fields.nonzero()[:, 0]
    ghost = torch.full_like(tied, dim)
    pairs = torch.cat([model.pairs, torch.stack([tied, ghost], 1)])
    strengths = torch.cat([model.strengths, model.fields[tied]])[:, None]

    def step(
        density: LogDensityAndChanges, state: DiscreteState, noise: Noise, settings: Settings
    ) -> tuple[DiscreteState, Transition]:
        state = set_out(state, settings)
        for_bonds, for_states = noise.uniform.split([len(pairs), dim + 1])
        chains = state.position.shape[1]
        ghosts = state.position.new_full((1, chains), model.lifted)
        sites = torch.cat([state.position, ghosts])
        equal = sites[pairs[:, 0]] == sites[pairs[:, 1]]
        closed = equal & (for_bonds >= (-strengths).exp())
        clusters = _clusters(pairs, closed, dim + 1)
        # The first site of a cluster tells its state; the last row is the ghost's.
        anew = (for_states * states).floor().clamp(max=states - 1)
        drawn = anew.T.reshape(-1)[clusters]
        of_ghost = clusters == clusters[:, -1:]
        drawn = torch.where(of_ghost, float(model.lifted), drawn.to(state.position))
        position = drawn[:, :dim].T.contiguous()
        new = Proposed(position, *density(position), torch.zeros_like(state.log_density))
        always = torch.ones_like(state.fresh)
        rate = torch.ones_like(state.log_density)
        return advance(state, new, always, rate, num_steps=1)

    return Kernel(start, step, uniforms=len(pairs) + dim + 1, normals=False)


def _clusters(pairs: Tensor, closed: Tensor, sites: int) -> Tensor:
    """The place of the first site of the cluster that each site is in, [chains, sites].

    Places count through the sites of all chains, chain after chain.

    :param pairs: the bonds [m, 2] of one chain.
    :param closed: which of them are closed [m, chains].
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    chains = closed.shape[1]
    chain, bond = closed.T.cpu().numpy().nonzero()
    ends = pairs.cpu().numpy()[bond] + sites * chain[:, None]
    number = sites * chains
    ones = np.ones(len(ends), dtype=np.int8)
    graph = coo_matrix((ones, (ends[:, 0], ends[:, 1])), shape=(number, number))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return torch.from_numpy(first[labels].reshape(chains, sites)).to(closed.device)
