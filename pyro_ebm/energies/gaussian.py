"""Gaussian energies: 0.5 (x - m)' P (x - m), with everything known at every temperature.

At temperature T the density is Gaussian with the same mean and T times the covariance, so that
log Z(T) = d/2 log(2 pi T) + 1/2 log det(covariance).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Energy
from .checks import as_temperature, values_visible
from .parameters import (
    broadcast_shape,
    event_sum,
    hold,
    keep,
    over_event,
    positive,
    rounded,
    spread_out,
)


class Gaussian(Energy):
    """0.5 (x - loc)' P (x - loc), P the inverse of the covariance matrix.

    Args:
        loc: the mean, [d].
        covariance_matrix: [d, d], symmetric and positive definite.
        precision_matrix: its inverse, instead.
        scale_tril: its lower Cholesky factor, instead; of the three, this one can be trained.

    Raises:
        TypeError: not exactly one of the three matrices; a Parameter as one of the other two.
        ValueError: wrong shapes; a matrix that is not symmetric and positive definite, or a factor
            that is not lower triangular with a positive diagonal.
    """

    loc: Tensor
    scale_tril: Tensor
    inverse_scale_tril: Tensor | None

    def __init__(
        self,
        loc: Tensor,
        *,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
    ) -> None:
        given = [m for m in (covariance_matrix, precision_matrix, scale_tril) if m is not None]
        if len(given) != 1:
            raise TypeError(
                "expected exactly one of covariance_matrix, precision_matrix and scale_tril, got "
                f"{len(given)}."
            )
        if loc.dim() != 1 or given[0].shape != (len(loc), len(loc)):
            raise ValueError(
                f"expected loc of shape (d,) and a matrix of shape (d, d), got {tuple(loc.shape)} "
                f"and {tuple(given[0].shape)}."
            )
        if isinstance(given[0], nn.Parameter) and scale_tril is None:
            raise TypeError(
                "expected a matrix that is learned to be the scale_tril, got an nn.Parameter as "
                "covariance_matrix or precision_matrix: a step would leave the positive definite "
                "matrices. Give scale_tril=nn.Parameter(torch.linalg.cholesky(covariance))."
            )
        super().__init__(loc.shape)
        if covariance_matrix is not None:
            factor = cholesky(covariance_matrix, "covariance_matrix")
        elif precision_matrix is not None:
            # P = U U' with U upper triangular, so that inv(U)' is the lower factor of inv(P).
            upper = cholesky(precision_matrix.flip(-2, -1), "precision_matrix").flip(-2, -1)
            factor = inverse_tril(upper.mT)
        else:
            factor = checked_tril(given[0])
        hold(self, {}, loc=loc, scale_tril=factor)
        keep(self, "inverse_scale_tril", lasting_inverse(self.scale_tril))

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        offset = x - self.loc
        white = offset @ inverse_now(self.scale_tril, self.inverse_scale_tril).mT.to(offset.dtype)
        return 0.5 * white.square().sum(-1)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        value = as_temperature(temperature).to(self.loc.device)
        log_det = self.scale_tril.double().diagonal().log().sum()
        log_z = 0.5 * len(self.loc) * torch.log(2 * math.pi * value.double()) + log_det
        return rounded(log_z, self.loc, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor:
        return self.loc.expand(as_temperature(temperature).shape + self.event_shape)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor:
        value = over_event(as_temperature(temperature), self.event_shape)
        return rounded(value * self.scale_tril.square().sum(-1), self.loc, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        noise = normal_noise((*shape, *self.event_shape), self.loc, generator)
        scale = over_event(spread_out(temperature, shape), self.event_shape).sqrt().to(noise)
        return (self.loc + scale * (noise @ self.scale_tril.mT)).detach()


class DiagonalGaussian(Energy):
    """0.5 sum ((x - loc)/scale)^2 over an event of any shape, () included.

    Args:
        loc: the mean, of the event's shape.
        scale: the standard deviations, positive; loc and scale broadcast to the event.

    Raises:
        ValueError: a scale that is not positive, or shapes that do not broadcast.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, loc: float | Tensor = 0.0, scale: float | Tensor = 1.0) -> None:
        shape = broadcast_shape(loc=torch.as_tensor(loc), scale=torch.as_tensor(scale))
        super().__init__(shape)
        hold(self, {"scale": positive}, loc=loc, scale=scale)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        return 0.5 * event_sum(((x - self.loc) / self.scale).square(), self.event_shape)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        value = as_temperature(temperature).double().to(self.loc.device)
        logs = self.scale.double().log().expand(self.event_shape).sum()
        size = self.event_shape.numel()
        return rounded(0.5 * size * (2 * math.pi * value).log() + logs, self.loc, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor:
        return self.loc.expand(as_temperature(temperature).shape + self.event_shape)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor:
        value = over_event(as_temperature(temperature), self.event_shape)
        variance = value * self.scale.square().expand(self.event_shape)
        return rounded(variance, self.loc, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        noise = normal_noise((*shape, *self.event_shape), self.loc, generator)
        scale = over_event(spread_out(temperature, shape), self.event_shape).sqrt().to(noise)
        return (self.loc + scale * self.scale * noise).detach()


def normal_noise(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers in the dtype and on the device of a constant."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def cholesky(matrix: Tensor, name: str) -> Tensor:
    """The lower Cholesky factor of a symmetric positive definite matrix.

    Raises:
        ValueError: the matrix is not symmetric, or not positive definite.
    """
    if values_visible() and not torch.allclose(matrix, matrix.mT, rtol=1e-4, atol=0.0):
        raise ValueError(f"expected a symmetric {name}, got one that is not.")
    factor, info = torch.linalg.cholesky_ex(matrix)
    if values_visible() and int(info) != 0:
        raise ValueError(
            f"expected a positive definite {name}, got one whose leading minor of order "
            f"{int(info)} is not. Add a small multiple of the identity if it is nearly so."
        )
    return factor


def checked_tril(factor: Tensor) -> Tensor:
    """A lower triangular matrix with a positive diagonal, as given.

    Raises:
        ValueError: anything else.
    """
    if values_visible():
        lower = bool((factor == factor.tril()).all())
        if not lower or not bool((factor.diagonal(dim1=-2, dim2=-1) > 0).all()):
            raise ValueError(
                "expected scale_tril to be lower triangular with a positive diagonal, got "
                f"{factor.detach()}. Take torch.linalg.cholesky of the covariance."
            )
    return factor


def inverse_tril(factor: Tensor) -> Tensor:
    """The inverse of a lower triangular matrix."""
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return torch.linalg.solve_triangular(factor, eye, upper=False)


def lasting_inverse(factor: Tensor) -> Tensor | None:
    """The inverse of a factor to keep beside it, None for a Parameter, which training moves."""
    return None if isinstance(factor, nn.Parameter) else inverse_tril(factor)


def inverse_now(factor: Tensor, kept: Tensor | None) -> Tensor:
    """The inverse of a factor: the kept one, or a new one of a factor that moves."""
    return inverse_tril(factor) if kept is None else kept
