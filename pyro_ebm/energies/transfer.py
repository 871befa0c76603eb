"""log Z of a lattice by transfer matrices, exact for any couplings and fields.

The lattice is cut into slices across its longest axis. With Q = q^w states of a slice of w sites,
the sum over a slice's states is a product of w small sums, one site at a time, so that a step costs
Q w q operations (Q^2 w q on a torus, where the first slice has to be remembered), in logarithms
throughout: nothing over- or underflows at any temperature.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .checks import as_temperature
from .couplings import Bonds, DenseCouplings, LatticeCouplings

CHEAP = 2**24
MAX_HELD = 2**24


class Slices(NamedTuple):
    """A lattice cut across its longest axis, in units of energy.

    Attributes:
        agreement: f(a, b) of two states, [q, q].
        digits: the states of the sites of a slice, by the number of the slice's state, [Q, w].
        inside: minus the energy of each state of each slice, [slices, Q].
        across: the strengths from a site to the same one of the next slice, [slices, w].
        closed: whether the last slice is bound to the first.
    """

    agreement: Tensor
    digits: Tensor
    inside: Tensor
    across: Tensor
    closed: bool


def is_cheap(couplings: LatticeCouplings, num_states: int) -> bool:
    """Whether log Z takes a fraction of a second."""
    return _held(couplings, num_states) * couplings.event_shape.numel() * num_states <= CHEAP


def _held(couplings: LatticeCouplings, num_states: int) -> int:
    shape = couplings.event_shape
    states = num_states ** (shape.numel() // max(shape))
    return states**2 if couplings.periodic and max(shape) > 2 else states


def transfer_log_z(
    couplings: DenseCouplings | LatticeCouplings,
    bonds: Bonds,
    temperature: float | Tensor,
    *,
    agreement: Float[Tensor, "q q"],
    fields: Float[Tensor, "n q"],
) -> Float[Tensor, "*batch"]:
    """log of the sum over configurations of exp((sum_b J_b f(x_i, x_j) + sum_i h_i[x_i])/T).

    Args:
        couplings: the lattice.
        bonds: its bonds.
        temperature: T, a number or a tensor [*batch].
        agreement: f.
        fields: h.

    Raises:
        ValueError: not a lattice; a slice of it has more than 2^24 states, on a torus 2^12.
    """
    if not isinstance(couplings, LatticeCouplings):
        raise ValueError(
            "expected a lattice, got dense couplings, which have no slices. Build the energy with "
            ".lattice(shape, coupling=...), or use exact_enumeration."
        )
    held = _held(couplings, len(agreement))
    if held > MAX_HELD:
        raise ValueError(
            f"expected a lattice narrow enough for transfer matrices of 2^24 numbers, got "
            f"{tuple(couplings.event_shape)}, which needs {held:.3g}. Only the longest side may be "
            "long; estimate with AIS or ThermodynamicIntegration."
        )
    slices = _cut(couplings, bonds, agreement=agreement.double(), fields=fields.double())
    value = as_temperature(temperature).double().to(slices.inside.device)
    log_z = torch.stack([_sum(slices, 1 / level) for level in value.reshape(-1)])
    return log_z.reshape(value.shape)


def _cut(couplings: LatticeCouplings, bonds: Bonds, *, agreement: Tensor, fields: Tensor) -> Slices:
    shape, states = couplings.event_shape, len(agreement)
    axis = shape.index(max(shape))
    length, width = shape[axis], shape.numel() // shape[axis]
    device = fields.device
    sites = torch.arange(shape.numel(), device=device).reshape(shape).movedim(axis, 0)
    order = sites.reshape(-1)
    position = torch.empty_like(order)
    position[order] = torch.arange(shape.numel(), device=device)
    first, second = position[bonds.pairs].unbind(-1)
    strengths = bonds.strengths.double()
    inside = first // width == second // width
    places = torch.arange(states**width, device=device).unsqueeze(-1)
    powers = torch.tensor([states**c for c in reversed(range(width))], device=device)
    digits = places // powers % states
    # Stable: each slice has its bonds in the same order.
    by_slice = (first // width)[inside].argsort(stable=True)
    within = strengths[inside][by_slice].reshape(length, -1)
    count = within.shape[1]
    pairs = torch.stack([first[inside], second[inside]], -1)[by_slice][:count] % width
    terms = agreement[digits[:, pairs[:, 0]], digits[:, pairs[:, 1]]]
    local = fields[order].reshape(length, width, states)
    alone = torch.stack([local[:, c, digits[:, c]] for c in range(width)]).sum(0)
    across = strengths.new_zeros(shape.numel()).scatter(0, first[~inside], strengths[~inside])
    return Slices(
        agreement,
        digits,
        within @ terms.mT + alone,
        across.reshape(length, width),
        couplings.periodic and length > 2,
    )


def _sum(slices: Slices, beta: Tensor) -> Tensor:
    """log Z at one inverse temperature: a running [first slice, present slice] of log sums."""
    inside, across, length = beta * slices.inside, beta * slices.across, len(slices.inside)
    if length == 1:
        return inside[0].logsumexp(-1)
    if slices.closed:
        running = inside[0].unsqueeze(-1) + _between(slices, across[0])
    else:
        running = _pass(slices, inside[:1], across[0])
    for here in range(1, length - 1):
        running = _pass(slices, running + inside[here], across[here])
    running = running + inside[-1]
    if slices.closed:
        running = running + _between(slices, across[-1]).mT
    return running.logsumexp((0, 1))


def _between(slices: Slices, across: Tensor) -> Tensor:
    """What binds each state of a slice to each of the next, [Q, Q]."""
    total = across.new_zeros(())
    for strength, digit in zip(across, slices.digits.unbind(-1), strict=True):
        total = total + strength * slices.agreement[digit][:, digit]
    return total


def _pass(slices: Slices, running: Tensor, across: Tensor) -> Tensor:
    """Sum over the present slice, one site after the other, in favour of the next."""
    states, width = len(slices.agreement), slices.digits.shape[1]
    for place, strength in enumerate(across):
        split = running.reshape(len(running), states**place, states, 1, -1)
        bound = (strength * slices.agreement).unsqueeze(-1)
        if states == 2:
            terms = split + bound
            running = torch.logaddexp(terms[:, :, 0], terms[:, :, 1])
        else:
            running = (split + bound).logsumexp(2)
        running = running.reshape(len(running), states**width)
    return running
