"""The XY model: planar rotors, E = -sum over bonds of J_ij cos(t_i - t_j) - sum_i h_i cos t_i.

Angles live on (-pi, pi) at each site; the ends of the interval are one point of the circle, and the
density does not vanish there. In two dimensions there is no order, but vortices unbind at the
Kosterlitz-Thouless transition, T = 0.893 J on the square lattice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.shapes import joint_shape

from .base import Energy
from .checks import as_temperature, values_visible
from .couplings import DenseCouplings, LatticeCouplings
from .double_well import fits_event
from .pairwise import hold_like
from .parameters import event_sum, over_event, rounded

# Points of the circle at which exp(K cos t) is sampled for its Fourier coefficients, and the
# largest K whose coefficients they hold: I_k(K)/I_0(K) falls like exp(-k^2/2K), to e^-40 there.
GRID, LARGEST = 2**12, 5e4
# So many nats an alternating sum may lie below its largest term; beyond, and up to this K (whose
# grids of 12 sqrt(K) points are small), a ring is summed over angles.
_CANCELLED, _LARGEST_CONVOLVED = 5.0, 1e4


class XY(Energy):
    """-sum over bonds of J_ij cos(t_i - t_j) - sum_i h_i cos t_i on angles from -pi to pi.

    Without fields log Z is known of rings and chains of one coupling, at temperatures that are not
    too low (|J|/T up to 50000; in a frustrated ring, odd with J < 0, up to 10000), and the moments
    of a single angle are those of the uniform distribution.

    Args:
        couplings: J, a symmetric matrix [n, n] with a zero diagonal, or the couplings of a lattice.
        fields: h, a number or one for each rotor.

    Raises:
        TypeError: not real numbers or tensors.
        ValueError: couplings that are not symmetric, have a diagonal or are not finite; fields of
            another shape.
    """

    fields: Tensor

    def __init__(self, couplings: Tensor | LatticeCouplings, fields: float | Tensor = 0.0) -> None:
        made = couplings if isinstance(couplings, LatticeCouplings) else DenseCouplings(couplings)
        super().__init__(made.event_shape, support=constraints.interval(-math.pi, math.pi))
        self.couplings = made
        hold_like(self, made, fields=fields)
        fits_event(self.event_shape, fields=self.fields)

    @classmethod
    def lattice(
        cls,
        shape: Sequence[int],
        coupling: float | Tensor = 1.0,
        field: float | Tensor = 0.0,
        *,
        periodic: bool = True,
    ) -> XY:
        """Neighbours on a hypercubic lattice; the event shape is the lattice's.

        Args:
            shape: the lengths of the lattice; `(n,)` is a ring.
            coupling: J, a number, one for each axis [d], or one for each bond [d, *shape] (from a
                site to the next along each axis).
            field: h, a number or one for each site.
            periodic: whether the last site of each row is bound to the first. Each pair of
                neighbours is bound once, also along a length of 2.
        """
        return cls(LatticeCouplings(shape, coupling, periodic=periodic), field)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        cos, sin = x.cos(), x.sin()
        flat = torch.stack([cos, sin], 1).flatten(2)
        bound = 0.5 * (flat * self.couplings(flat)).sum((1, 2))
        return -bound - event_sum(self.fields * cos, self.event_shape)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        lattice = self.couplings
        value = as_temperature(temperature).double().to(self.fields.device)
        if not isinstance(lattice, LatticeCouplings) or not self._turns():
            return None
        if len(lattice.event_shape) != 1 or lattice.strength.numel() != 1:
            return None
        length, closed = lattice.event_shape[0], bool(lattice.present[..., -1])
        coupling = lattice.strength.double().reshape(()) / value
        frustrated = closed and length % 2 == 1 and bool((coupling < 0).any())
        if bool((coupling.abs() > (_LARGEST_CONVOLVED if frustrated else LARGEST)).any()):
            return None
        if frustrated:
            each = [_frustrated_ring(one, length) for one in coupling.abs().reshape(-1)]
            log_sum = torch.stack(each).reshape(coupling.shape)
        else:
            log_sum = _sum_of_powers(coupling, length, closed=closed)
        return rounded(length * math.log(2 * math.pi) + log_sum, self.fields, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._uniform(temperature, 0.0)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        return self._uniform(temperature, math.pi**2 / 3)

    def _uniform(self, temperature: float | Tensor, figure: float) -> Tensor | None:
        if not self._turns():
            return None
        value = over_event(as_temperature(temperature), self.event_shape).to(self.fields.device)
        every = torch.full_like(value.double(), figure).expand(*value.shape)
        every = every.expand(joint_shape(value.shape, self.event_shape))
        return rounded(every, self.fields, temperature)

    def _turns(self) -> bool:
        """Whether turning all rotors together changes nothing, as far as can be seen."""
        return values_visible() and not bool(self.fields.detach().any())


def _sum_of_powers(coupling: Tensor, length: int, *, closed: bool) -> Tensor:
    """log sum_k I_k(K)^n of a ring, (n - 1) log I_0(K) of a chain: the rotors' transfer operator is
    diagonal in Fourier space, with the modified Bessel functions of K as its eigenvalues."""
    angle = torch.arange(GRID, dtype=coupling.dtype, device=coupling.device) * (2 * math.pi / GRID)
    kernel = (coupling.unsqueeze(-1) * angle.cos() - coupling.abs().unsqueeze(-1)).exp()
    modes = torch.fft.fft(kernel).real / GRID
    log_first = modes[..., 0].log() + coupling.abs()
    if not closed:
        return (length - 1) * log_first
    ratios = modes / modes[..., :1]
    return length * log_first + ratios.pow(length).sum(-1).log()


def _frustrated_ring(coupling: Tensor, length: int) -> Tensor:
    """log sum_k (-1)^k I_k(|K|)^n, of an odd ring whose neighbours would all be opposite.

    At low temperature this sum is the small rest of large terms. It is also the n-fold convolution
    of exp(|K| cos t) at t = pi: the angles between neighbours, each less pi, add up to half a turn.
    That is a sum of positive terms, and on an even grid finer than the width 1/sqrt(K) of each
    factor it is exact to rounding.
    """
    size = float(coupling.detach())
    if size * math.pi**2 / (2 * length) < _CANCELLED:
        return _sum_of_powers(-coupling, length, closed=True)
    half = 16 + math.ceil(6.0 * math.sqrt(size))
    place = torch.arange(2 * half, device=coupling.device)
    differences = (place[:, None] - place) % (2 * half)
    kernel = coupling * (place.to(coupling) * (math.pi / half)).cos()

    def convolved(first: Tensor, second: Tensor) -> Tensor:
        return (first + second[differences]).logsumexp(-1) - math.log(2 * half)

    # n = 2 m + 1: the kernel's m-th power by squares, from the first digit of m on.
    power = kernel
    for digit in f"{length // 2:b}"[1:]:
        power = convolved(power, power)
        power = convolved(power, kernel) if digit == "1" else power
    beside = convolved(power, kernel)
    return (power + beside[differences[half]]).logsumexp(-1) - math.log(2 * half)
