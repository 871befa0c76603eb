"""What learning minimises: an objective, and how one is asked.

An objective is a frozen set of options. Bound to an energy it is asked for its loss on batches,
with whatever state it needs (chains, a log Z that is learned too) handed in and out:

    bound = objective.bind(energy)
    state = bound.begin(batch, generator)
    judged = bound.judge(batch, state, generator)
    judged.loss.backward()

`Objective.loss` does all of this for one batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from pyro_ebm.energies import Energy, as_energy


class Judged(NamedTuple):
    """What an objective says of a batch.

    ``loss`` has a gradient, ``state`` is for the next batch; ``data_energy`` [n] and
    ``negative_energy`` [m] are the energies it was made of, where it was, with their graphs;
    ``report`` holds numbers to watch.
    """

    loss: Tensor
    state: Any = None
    data_energy: Tensor | None = None
    negative_energy: Tensor | None = None
    report: Mapping[str, float] = MappingProxyType({})


class Bound(ABC):
    """An objective on one energy; what it holds besides does not change from batch to batch."""

    def __init__(self, energy: Energy) -> None:
        self.energy = energy

    def begin(self, batch: Tensor, generator: torch.Generator) -> Any:
        """The state before the first batch, a NamedTuple of tensors; None where none is needed."""
        return None

    @abstractmethod
    def judge(self, batch: Tensor, state: Any, generator: torch.Generator) -> Judged:
        """The loss of a batch [n, *event]."""

    def parameters(self, state: Any) -> Sequence[Tensor]:
        """Tensors of the state that are learned beside the energy's parameters."""
        return ()

    def negatives(self, state: Any) -> Tensor | None:
        """Configurations [m, *event] of the chains in the state; None without lasting ones."""
        return None

    def held_out(self, rows: Tensor, state: Any, generator: torch.Generator) -> float | None:
        """The loss of rows that are not learned from, comparable from look to look; None where it
        says nothing."""
        return None

    def watched(self, rows: Tensor, state: Any, generator: torch.Generator) -> float | None:
        """A loss of rows by which it is told what parameters are good; that held out, unless this
        can be wrong where learning goes wrong."""
        return self.held_out(rows, state, generator)

    def log_z(self, state: Any) -> tuple[float, float] | None:
        """log Z of the energy as it is, with a standard error, where learning knows it."""
        return None


class Objective(ABC):
    """Options of an objective; abstract: one file each."""

    @abstractmethod
    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy.

        :raises ValueError, TypeError: an energy that it is not for.
        """

    def loss(
        self,
        energy: Any,
        batch: Shaped[Tensor, "n ..."],
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of one batch, with its gradient, from a fresh state.

        :param energy: an Energy, a net or a function.
        :param batch: configurations [n, *event].
        :param generator: the random stream; one seeded from torch's global one unless given.
        """
        taken = energy_for(energy, batch)
        if generator is None:
            generator = torch.Generator(batch.device)
            generator.manual_seed(int(torch.randint(2**62, ())))
        bound = self.bind(taken)
        return bound.judge(batch, bound.begin(batch, generator), generator).loss


def energy_for(energy: Any, rows: Tensor) -> Energy:
    """Anything that can be an energy, of configurations such as these rows [n, *event].

    :raises ValueError: the rows are not configurations of it, or lie outside of its support.
    """
    taken = _shaped(energy, rows)
    inside = taken.support.check(rows).reshape(len(rows), -1).all(1)
    if not bool(inside.all()):
        raise ValueError(
            f"expected data inside the support {taken.support} of {type(taken).__name__}, got "
            f"{int((~inside).sum())} of {len(rows)} rows outside of it."
        )
    return taken


def _shaped(energy: Any, rows: Tensor) -> Energy:
    if isinstance(energy, Energy):
        if tuple(rows.shape[1:]) != tuple(energy.event_shape):
            advice = (
                " Write energy.marginal(), which sums the hidden units out."
                if hasattr(energy, "marginal")
                else ""
            )
            raise ValueError(
                f"expected data [n, *{tuple(energy.event_shape)}], rows that are configurations of "
                f"{type(energy).__name__}, got shape {tuple(rows.shape)}.{advice}"
            )
        return energy
    return as_energy(energy, event_shape=tuple(rows.shape[1:]))


def check_real(energy: Energy, name: str) -> None:
    """Refuse energies that are not of all real numbers.

    :raises ValueError: another support.
    """
    from torch.distributions import constraints

    from pyro_ebm.energies.supports import elementwise

    if not isinstance(elementwise(energy.support), type(constraints.real)):
        raise ValueError(
            f"expected an energy of all real numbers, got support {energy.support}: {name} "
            "integrates by parts, which leaves terms at a border. Transform the data to real "
            "numbers, or learn by maximum likelihood (PersistentContrastiveDivergence)."
        )
