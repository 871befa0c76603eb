"""Neural transport: a log density seen through a smooth bijection of its coordinates.

With x = T(z), the density of z is that of x times |det dT/dz|:

    log density(z) = log p(T(z)) + log |det dT/dz| .

A T under which this is nearly a standard normal (a normalising flow fitted to p, say) makes a badly
shaped target a round one. Whatever T is, draws of z give draws of p by T, exactly: a poor T costs
time and nothing else.

Source: Parno, Marzouk (2018), Transport map accelerated Markov chain Monte Carlo; Hoffman et al.
(2019), NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural transport.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import ComposeTransform, Transform

from .program import Choose, Program, Terms
from .side import Side

_PROBES = 8
_PROBE_SEED = 23


class TransportedProgram:
    """A program whose flat position is sent through a transform of vectors before it is read."""

    def __init__(self, inner: Program, transform: Transform) -> None:
        self.inner, self.transform = inner, transform
        self.sites = inner.sites

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms at T(position), with log |det dT/dz| among the Jacobians."""
        flat, log_det = pushed(self.transform, position)
        terms = self.inner.run(flat, side)
        return terms._replace(log_det=terms.log_det + log_det)

    def start(self, choose: Choose) -> Tensor:
        """The position that T takes to the values that are chosen."""
        position: Any = self.transform.inv(self.inner.start(choose))
        return position


def pushed(transform: Transform, position: Tensor) -> tuple[Tensor, Tensor]:
    """T(z) and log |det dT/dz| of positions [*batch, dim], in one pass where T knows how."""
    if isinstance(transform, ComposeTransform) and not hasattr(transform, "call_and_ladj"):
        total = position.new_zeros(position.shape[:-1])
        for part in transform.parts:
            position, log_det = pushed(part, position)
            total = total + log_det
        return position, total
    # zuko's transforms know both in one pass.
    both: Any = getattr(transform, "call_and_ladj", None)
    value: Any = None
    if both is not None:
        value, log_det = both(position)
    else:
        value = transform(position)
        log_det = transform.log_abs_det_jacobian(position, value)
    elementwise = transform.domain.event_dim == 0
    return value, log_det.sum(-1) if elementwise else log_det


def check_transform(transform: Any, *, dim: int, like: Tensor) -> None:
    """Refuse what is no bijection of vectors of ``dim`` numbers, or is one of another dtype.

    :param like: gives the dtype and device of positions.
    :raises TypeError: no transform.
    :raises ValueError: other shapes or dtypes; an inverse or a log determinant that is not one.
    """
    if not isinstance(transform, Transform):
        raise TypeError(
            "expected a torch.distributions.Transform from positions to unconstrained "
            f"coordinates, got {type(transform).__name__}. Of a flow take transported(model, flow)."
        )
    generator = torch.Generator().manual_seed(_PROBE_SEED)
    z = torch.randn(_PROBES, dim, generator=generator, device=generator.device).to(like)
    with torch.no_grad():
        try:
            x, log_det = pushed(transform, z)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ValueError(
                f"expected a transform of vectors of the target's {dim} coordinates in "
                f"{like.dtype}, got one that fails there ({_first_line(error)})."
            ) from error
        if x.shape != z.shape or log_det.shape != z.shape[:1] or x.dtype != z.dtype:
            raise ValueError(
                f"expected a transform from [n, {dim}] to [n, {dim}] in {like.dtype} with one log "
                f"determinant a row, got {tuple(x.shape)} in {x.dtype} and {tuple(log_det.shape)}."
            )
        back: Any = transform.inv(x)
        scale = 1 + z.abs().max()
        if not bool(((back - z).abs() < scale * torch.finfo(z.dtype).eps ** 0.25).all()):
            raise ValueError(
                "expected a transform with an inverse, got one whose inverse of T(z) is "
                f"{float((back - z).abs().max()):.3g} away from z."
            )
    _check_log_det(transform, z[0])


def _check_log_det(transform: Transform, z: Tensor) -> None:
    jacobian: Any = torch.autograd.functional.jacobian(lambda p: pushed(transform, p)[0], z)
    right = torch.linalg.slogdet(jacobian).logabsdet
    with torch.no_grad():
        told = pushed(transform, z)[1]
    if not bool((told - right).abs() < (1 + right.abs()) * torch.finfo(z.dtype).eps ** 0.25):
        raise ValueError(
            f"expected log |det dT/dz| = {float(right):.6g}, as the Jacobian has it, got "
            f"{float(told):.6g}: draws would not be those of the target."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
