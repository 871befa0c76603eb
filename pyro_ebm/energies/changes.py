"""What single changes of a discrete configuration do, for energies that do not say it."""

from __future__ import annotations

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
    rows, sites, count = len(x), energy.event_shape.numel(), len(states)
    now = evaluate_rows(energy, x)
    flat = x.reshape(rows, sites)
    changes = now.new_empty(rows, sites, count)
    width = max(1, chunk_size // max(1, rows * count))
    for first in range(0, sites, width):
        last = min(first + width, sites)
        moved = flat[:, None, None].repeat(1, last - first, count, 1)
        for place in range(first, last):
            moved[:, place - first, :, place] = states
        after = evaluate_rows(energy, moved.reshape(-1, *energy.event_shape))
        changes[:, first:last] = after.reshape(rows, -1, count) - now[:, None, None]
    return changes.reshape(*x.shape, count)


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
