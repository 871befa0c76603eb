"""Student's t: heavy tails, and a temperature that changes the degrees of freedom.

E(x) = (nu + d)/2 log(1 + |y|^2/nu), y = L^-1 (x - m). Dividing it by T gives a t again, with
nu(T) = (nu + d)/T - d degrees of freedom and scale L sqrt(nu/nu(T)); at nu(T) <= 0 the tails are
too heavy for a normaliser to exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Energy
from .checks import as_temperature, values_visible
from .gaussian import checked_tril, inverse_now, lasting_inverse, normal_noise
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


class StudentT(Energy):
    """(nu + d)/2 log(1 + |y|^2/nu), where y = (x - loc)/scale, or scale_tril^-1 (x - loc).

    One t over the whole event of d numbers (its coordinates are dependent), not d of them.

    Args:
        df: nu, the degrees of freedom, positive.
        loc: the centre; broadcasts with `scale` to the event's shape.
        scale: the scale of each coordinate, positive; leave it out with `scale_tril`.
        scale_tril: a lower triangular scale matrix [d, d] for events of shape (d,).

    Raises:
        ValueError: df or scale not positive; shapes that do not fit; scale and scale_tril at once.
    """

    df: Tensor
    loc: Tensor
    scale: Tensor
    inverse_scale: Tensor | None

    def __init__(
        self,
        df: float | Tensor,
        loc: float | Tensor = 0.0,
        scale: float | Tensor | None = None,
        *,
        scale_tril: Tensor | None = None,
    ) -> None:
        if scale is not None and scale_tril is not None:
            raise ValueError("expected scale or scale_tril, got both. Leave one of them out.")
        spread = 1.0 if scale is None else scale
        if scale_tril is None:
            shape = broadcast_shape(loc=torch.as_tensor(loc), scale=torch.as_tensor(spread))
        else:
            shape = scale_tril.shape[-1:]
            if torch.as_tensor(loc).shape not in (torch.Size(), shape):
                raise ValueError(
                    f"expected loc of shape {tuple(shape)}, that of scale_tril, got "
                    f"{tuple(torch.as_tensor(loc).shape)}."
                )
            spread = checked_tril(scale_tril)
        if torch.as_tensor(df).dim():
            raise ValueError(
                f"expected df to be one number, got {tuple(torch.as_tensor(df).shape)}."
            )
        super().__init__(shape)
        self.dense = scale_tril is not None
        conditions = {"df": positive} if self.dense else {"df": positive, "scale": positive}
        hold(self, conditions, df=df, loc=loc, scale=spread)
        keep(self, "inverse_scale", lasting_inverse(self.scale) if self.dense else None)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        offset = x - self.loc
        if self.dense:
            white = offset @ inverse_now(self.scale, self.inverse_scale).mT.to(offset.dtype)
        else:
            white = offset / self.scale
        square = event_sum(white.square(), self.event_shape)
        return 0.5 * (self.df + self.event_shape.numel()) * torch.log1p(square / self.df)

    def _effective_df(self, temperature: float | Tensor) -> Tensor:
        size = self.event_shape.numel()
        value = as_temperature(temperature).double().to(self.loc.device)
        return (self.df.double() + size) / value - size

    def _log_det(self) -> Tensor:
        scale = self.scale.double()
        if self.dense:
            return scale.diagonal().log().sum()
        return scale.log().expand(self.event_shape).sum()

    def _marginal_variance(self) -> Tensor:
        scale = self.scale.double().square()
        return scale.sum(-1) if self.dense else scale.expand(self.event_shape)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """log of |L| (pi nu)^(d/2) Gamma(nu(T)/2)/Gamma((nu(T) + d)/2); None where it diverges."""
        df, size = self._effective_df(temperature), self.event_shape.numel()
        exists = df > 0
        if values_visible() and not bool(exists.all()):
            return None
        safe = torch.where(exists, df, 1.0)
        log_z = (
            self._log_det()
            + 0.5 * size * (math.pi * self.df.double()).log()
            + torch.lgamma(0.5 * safe)
            - torch.lgamma(0.5 * (safe + size))
        )
        return rounded(torch.where(exists, log_z, math.inf), self.loc, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """The centre where nu(T) > 1, else None."""
        df = self._effective_df(temperature)
        if values_visible() and not bool((df > 1).all()):
            return None
        exists = over_event(df > 1, self.event_shape)
        return torch.where(exists, self.loc, math.nan).expand(df.shape + self.event_shape)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """nu/(nu(T) - 2) times the squared scale where nu(T) > 2, else None."""
        df = self._effective_df(temperature)
        if values_visible() and not bool((df > 2).all()):
            return None
        factor = over_event(
            torch.where(df > 2, self.df.double() / (df - 2), math.nan), self.event_shape
        )
        return rounded(factor * self._marginal_variance(), self.loc, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        df = self._effective_df(spread_out(temperature, shape)).detach()
        if not bool((df > 0).all()):
            return None
        noise = normal_noise((*shape, *self.event_shape), self.loc, generator)
        gamma = torch.ops.aten._standard_gamma(0.5 * df, generator=generator)
        # x = m + L sqrt(nu/nu(T)) z / sqrt(g/nu(T)), with g = 2 gamma a chi-square of nu(T).
        factor = over_event((0.5 * self.df.double() / gamma).sqrt(), self.event_shape).to(noise)
        spread = noise @ self.scale.mT if self.dense else noise * self.scale
        return (self.loc + factor * spread).detach()
