"""Blocks of sites that do not interact, so that all of a block can be drawn at once.

Given the other blocks the sites of one block are independent. A lattice of even lengths has two
blocks, its two checkerboards; an RBM its two layers; a dense model one a site.
"""

from __future__ import annotations

from collections import deque

import torch
from jaxtyping import Int
from torch import Tensor


def blocks_of(interactions: Tensor, num_sites: int) -> list[Int[Tensor, " size"]]:
    """Colour the graph of interactions: no two sites of a block share a pair.

    Greedy, breadth first: where two blocks are enough, it finds them; otherwise it takes no more
    than one plus the most neighbours that a site has.

    Args:
        interactions: pairs of sites, [m, 2].
        num_sites: how many sites there are.

    Returns:
        The blocks, each the ascending places of its sites.

    Raises:
        ValueError: pairs of another shape, or of sites that do not exist.
    """
    if interactions.dim() != 2 or interactions.shape[-1] != 2:
        raise ValueError(
            f"expected interactions of shape [m, 2], pairs of sites, got "
            f"{tuple(interactions.shape)}."
        )
    if interactions.numel() and not 0 <= int(interactions.min()) <= int(interactions.max()) < (
        num_sites
    ):
        raise ValueError(f"expected pairs of sites from 0 to {num_sites - 1}, got others.")
    neighbours = _neighbours(interactions.cpu(), num_sites)
    colours = [-1] * num_sites
    queued = [False] * num_sites
    for first in range(num_sites):
        if queued[first]:
            continue
        queued[first] = True
        waiting = deque([first])
        while waiting:
            site = waiting.popleft()
            around = neighbours[site]
            taken = {colours[other] for other in around}
            colour = 0
            while colour in taken:
                colour += 1
            colours[site] = colour
            for other in around:
                if not queued[other]:
                    queued[other] = True
                    waiting.append(other)
    found = torch.tensor(colours, dtype=torch.long)
    order = found.argsort(stable=True)
    counts = found.bincount().tolist()
    return [block.to(interactions.device) for block in order.split(counts)] if num_sites else []


def _neighbours(interactions: Tensor, num_sites: int) -> list[list[int]]:
    different = interactions[interactions[:, 0] != interactions[:, 1]]
    both = torch.cat([different, different.flip(-1)])
    sources, targets = both[both[:, 0].argsort()].unbind(-1)
    counts = sources.bincount(minlength=num_sites).tolist()
    return [each.tolist() for each in targets.split(counts)]
