"""What single changes of a discrete configuration do, for energies that do not say it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Energy, evaluate_rows
from .states import states_of


def changes_by_enumeration(
    energy: Energy, x: Tensor, *, chunk_size: int = 2**14
) -> Float[Tensor, "n ..."]:
    """E(x with site i in state k) - E(x), by evaluating the energy at each of them.

    Args:
        energy: an energy on a discrete support of finitely many states.
        x: configurations [N, *event].
        chunk_size: about how many configurations are evaluated at once.

    Returns:
        A tensor [N, *event, K], the states in ascending order, as `Energy.energy_changes`.

    Raises:
        ValueError: a support that is not discrete, or not finite.
    """
    states = checked_states(energy, x)
    flat = x.reshape(len(x), -1)
    indices = (flat.unsqueeze(-1) == states).to(torch.uint8).argmax(-1)
    changes = enumerated_changes(
        lambda moved: evaluate_rows(energy, states[moved].reshape(-1, *energy.event_shape)),
        indices,
        len(states),
        chunk_size=chunk_size,
    )
    return changes.reshape(*x.shape, len(states))


def enumerated_changes(
    energies: Callable[[Tensor], Tensor],
    indices: Tensor,
    num_states: int,
    *,
    now: Tensor | None = None,
    chunk_size: int = 2**14,
) -> Float[Tensor, "n sites states"]:
    """What putting each site into each state adds to an energy, zero where it is in it already.

    Args:
        energies: from indices of states [M, sites] to energies [M].
        indices: which state each site is in, [N, sites].
        num_states: K of every site.
        now: the energies of these configurations, where they are known.
        chunk_size: about how many configurations are evaluated at once.
    """
    rows, dim = indices.shape
    now = energies(indices) if now is None else now
    size = max(1, chunk_size // max(1, rows * (num_states - 1)))
    other = torch.arange(1, num_states, device=indices.device, dtype=indices.dtype)
    pieces = []
    for first in range(0, dim, size):
        sites = torch.arange(first, min(first + size, dim), device=indices.device)
        # The site goes to the state that lies so many beyond its own: [rows, sites, K-1, dim].
        here = (torch.arange(dim, device=indices.device) == sites[:, None])[:, None]
        moved = (indices[:, None, None] + here * other[:, None]) % num_states
        found = energies(moved.reshape(-1, dim))
        pieces.append(found.reshape(rows, len(sites), num_states - 1) - now[:, None, None])
    beyond = torch.cat([now.new_zeros(rows, dim, 1), torch.cat(pieces, 1)], -1)
    every = torch.arange(num_states, device=indices.device, dtype=indices.dtype)
    return beyond.gather(-1, ((every - indices[..., None]) % num_states).long())


def checked_states(energy: Energy, like: Tensor | None = None) -> Tensor:
    """The states of a site, [K], in the dtype and on the device of `like`.

    Raises:
        ValueError: a support that is not discrete, or not finite.
    """
    states = states_of(energy.support)
    if states is None:
        raise ValueError(
            f"expected an energy whose sites have finitely many states, got "
            f"{type(energy).__name__} on {energy.support}. Say which they are: "
            "as_energy(energy, support=...), with constraints.boolean, pyro_ebm.spin or "
            "constraints.integer_interval."
        )
    return states if like is None else states.to(like)
