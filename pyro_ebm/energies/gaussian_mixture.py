"""Mixtures of Gaussians as one energy: minus the log of a normalised density."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Energy
from .double_well import fits_event
from .gaussian import checked_tril, inverse_now, lasting_inverse, normal_noise
from .mixture import check_log_weights, is_one, where_one
from .parameters import event_sum, hold, keep, over_event, positive, rounded, spread_out


class GaussianMixtureEnergy(Energy):
    """-log sum_k w_k N(x; loc_k, scale_k), weights and components normalised: log Z = 0 at T = 1.

    At other temperatures the density is a power of a sum, and nothing of it is known.

    Args:
        loc: the means, [K, *event].
        scale: standard deviations, positive, of a shape that broadcasts to `loc`; leave it out
            with `scale_tril`.
        scale_tril: lower Cholesky factors [K, d, d] or [d, d], for events of shape (d,).
        log_weights: log w_k, [K], up to a constant; equal by default.

    Raises:
        ValueError: shapes that do not fit; a scale that is not positive; both kinds of scale.
    """

    loc: Tensor
    scale: Tensor
    log_weights: Tensor
    inverse_scale: Tensor | None

    def __init__(
        self,
        loc: Tensor,
        scale: float | Tensor | None = None,
        *,
        scale_tril: Tensor | None = None,
        log_weights: Tensor | None = None,
    ) -> None:
        if loc.dim() < 1 or len(loc) < 1:
            raise ValueError(f"expected loc of shape [K, *event], got {tuple(loc.shape)}.")
        if scale is not None and scale_tril is not None:
            raise ValueError("expected scale or scale_tril, got both. Leave one of them out.")
        super().__init__(loc.shape[1:])
        weights = loc.new_zeros(len(loc)) if log_weights is None else log_weights
        check_log_weights(weights, len(loc))
        self.dense = scale_tril is not None
        spread = (1.0 if scale is None else scale) if scale_tril is None else scale_tril
        conditions = {} if self.dense else {"scale": positive}
        hold(self, conditions, loc=loc, scale=spread)
        trained = isinstance(weights, nn.Parameter)
        keep(self, "log_weights", weights if trained else weights.to(self.loc.dtype))
        if self.dense:
            d = loc.shape[-1]
            if loc.dim() != 2 or self.scale.shape not in ((d, d), (len(loc), d, d)):
                raise ValueError(
                    f"expected loc [K, d] and scale_tril [K, d, d] or [d, d], got "
                    f"{tuple(loc.shape)} and {tuple(self.scale.shape)}."
                )
            checked_tril(self.scale)
        else:
            fits_event(loc.shape, scale=self.scale)
        keep(self, "inverse_scale", lasting_inverse(self.scale) if self.dense else None)

    def _log_shares(self) -> Tensor:
        return self.log_weights.log_softmax(-1)

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        offset = x.unsqueeze(1) - self.loc
        if self.dense:
            inverse = inverse_now(self.scale, self.inverse_scale).to(offset.dtype)
            white = (inverse @ offset.unsqueeze(-1)).squeeze(-1)
            log_det = self.scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        else:
            white = offset / self.scale
            log_det = event_sum(self.scale.log().expand(self.loc.shape), self.event_shape)
        size = self.event_shape.numel()
        constant = self._log_shares() - log_det - 0.5 * size * math.log(2 * math.pi)
        return -(constant - 0.5 * event_sum(white.square(), self.event_shape)).logsumexp(-1)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        if is_one(temperature) is False:
            return None
        zero = where_one(temperature, self.loc.new_zeros(()), torch.Size())
        return rounded(zero, self.loc, temperature)

    def mean(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        if is_one(temperature) is False:
            return None
        return where_one(temperature, self._average(self.loc), self.event_shape)

    def variance(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        if is_one(temperature) is False:
            return None
        squares = self.scale.square().sum(-1) if self.dense else self.scale.square()
        within = self._average(squares.expand(self.loc.shape))
        between = self._average((self.loc - self._average(self.loc)).square())
        return where_one(temperature, within + between, self.event_shape)

    def _average(self, values: Tensor) -> Tensor:
        return (over_event(self._log_shares().exp(), self.event_shape) * values).sum(0)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        if not is_one(spread_out(temperature, shape)):
            return None
        shape = torch.Size(shape)
        noise = normal_noise((shape.numel(), *self.event_shape), self.loc, generator)
        if not shape.numel():
            return noise.reshape(shape + self.event_shape)
        shares = self._log_shares().detach().exp()
        choice = torch.multinomial(shares, shape.numel(), True, generator=generator)
        if self.dense:
            factors = self.scale.expand(len(self.loc), *self.scale.shape[-2:])[choice]
            spread = (factors @ noise.unsqueeze(-1)).squeeze(-1)
        else:
            spread = self.scale.expand(self.loc.shape)[choice] * noise
        return (self.loc[choice] + spread).detach().reshape(shape + self.event_shape)
