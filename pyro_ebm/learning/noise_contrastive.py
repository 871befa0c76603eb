"""Noise-contrastive estimation: the energy learns to tell data from noise of known density.

A classifier whose log odds are -E(x) - c - log q(x) - log(noise a row), with q the noise's density,
is fitted by logistic regression. At its best exp(-E - c) is the density of the data, so that c
becomes log Z of the energy, learned with the rest: no sampling, no annealing. It works as well as
the noise is near the data.

Source: Gutmann, Hyvarinen (2012), Noise-contrastive estimation of unnormalized statistical models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal
from torch.nn.functional import softplus

from pyro_ebm.annealing.random import seeded
from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api.arguments import check_whole

from .objective import Bound, Judged, Objective, check_real

# The width of the noise that is fitted, in standard deviations of the data, and the dimension from
# which its coordinates are independent.
_WIDTH, _DENSE_UP_TO = 1.2, 128


class Learned(NamedTuple):
    """``log_z``, which is learned, and mean and scale (a lower triangle, or [dim]) of fitted noise,
    None for noise that was given."""

    log_z: Tensor
    mean: Tensor | None
    scale: Tensor | None


@dataclass(frozen=True)
class NoiseContrastive(Objective):
    """Tells data from noise, and learns log Z with the energy.

    :param noise: a distribution over configurations that can be drawn and scored, such as a fitted
        flow; "auto" is a Gaussian with the mean and 1.2 times the standard deviations of the first
        batch, for energies of all real numbers.
    :param ratio: rows of noise for every row of data.
    :raises TypeError: noise that is no distribution.
    :raises ValueError: noise with a batch shape.
    """

    noise: Any = "auto"
    ratio: int = 4

    def __post_init__(self) -> None:
        check_whole("ratio", self.ratio, 1)
        if isinstance(self.noise, str) and self.noise == "auto":
            return
        if not isinstance(self.noise, Distribution):
            raise TypeError(
                'expected noise to be a distribution over configurations, or "auto", got '
                f"{type(self.noise).__name__}."
            )
        if self.noise.batch_shape:
            raise ValueError(
                f"expected noise over whole configurations, got batch shape "
                f"{tuple(self.noise.batch_shape)}. Write "
                f"noise.to_event({len(self.noise.batch_shape)})."
            )

    def bind(self, energy: Energy) -> Bound:
        """The objective on an energy.

        :raises ValueError: noise of another event shape; "auto" for another support than all reals.
        """
        if isinstance(self.noise, Distribution):
            if self.noise.event_shape != energy.event_shape:
                raise ValueError(
                    f"expected noise over events of shape {tuple(energy.event_shape)}, got "
                    f"{tuple(self.noise.event_shape)}."
                )
        else:
            check_real(energy, "the Gaussian noise of NoiseContrastive")
        return _Bound(energy, self)


class _Bound(Bound):
    def __init__(self, energy: Energy, options: NoiseContrastive) -> None:
        super().__init__(energy)
        self.options = options

    def begin(self, batch: Tensor, generator: torch.Generator) -> Learned:
        mean, scale = (None, None)
        if not isinstance(self.options.noise, Distribution):
            mean, scale = _fitted(batch)
        noise = self._noise(Learned(batch.new_zeros(()), mean, scale))
        drawn = _draw(noise, len(batch), generator)
        with torch.no_grad():
            # Importance sampling from the noise: near enough for logistic regression to begin with.
            ratio = -self.energy(drawn).double() - noise.log_prob(drawn).double()
            start = ratio.logsumexp(0) - math.log(len(batch))
        return Learned(start.to(batch.dtype).requires_grad_(), mean, scale)

    def parameters(self, state: Learned) -> Sequence[Tensor]:
        return (state.log_z,)

    def judge(self, batch: Tensor, state: Learned, generator: torch.Generator) -> Judged:
        noise, ratio = self._noise(state), self.options.ratio
        drawn = _draw(noise, ratio * len(batch), generator)
        data_energy, noise_energy = self.energy(batch), self.energy(drawn)
        shift = state.log_z + math.log(ratio)
        on_data = -data_energy - noise.log_prob(batch).detach() - shift
        on_noise = -noise_energy - noise.log_prob(drawn).detach() - shift
        loss = softplus(-on_data).mean() + ratio * softplus(on_noise).mean()
        with torch.no_grad():
            right = 0.5 * float((on_data > 0).float().mean() + (on_noise < 0).float().mean())
        report = {"told_apart": right, "log_z": float(state.log_z.detach())}
        return Judged(loss, state, data_energy, noise_energy, report)

    def held_out(self, rows: Tensor, state: Learned, generator: torch.Generator) -> float:
        with torch.no_grad():
            return float(self.judge(rows, state, generator).loss)

    def log_z(self, state: Learned) -> tuple[float, float]:
        # The error is that of the fit, of which nothing is known here.
        return float(state.log_z.detach()), math.nan

    def _noise(self, state: Learned) -> Distribution:
        given = self.options.noise
        if isinstance(given, Distribution):
            return given
        assert state.mean is not None
        assert state.scale is not None
        event = self.energy.event_shape
        if state.scale.dim() == 2:
            flat: Distribution = MultivariateNormal(
                state.mean, scale_tril=state.scale, validate_args=False
            )
        else:
            flat = Independent(Normal(state.mean, state.scale, validate_args=False), 1)
        return flat if len(event) == 1 else _Reshaped(flat, event)


class _Reshaped(Distribution):
    """A distribution over vectors as one over events of another shape."""

    def __init__(self, flat: Distribution, event: torch.Size) -> None:
        super().__init__(event_shape=event, validate_args=False)
        self.flat = flat

    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn = self.flat.sample(torch.Size(sample_shape))
        return drawn.reshape(*sample_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        batch = value.shape[: value.dim() - len(self.event_shape)]
        return self.flat.log_prob(value.reshape(*batch, -1))


def _fitted(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of noise a little wider than the data."""
    flat = batch.detach().reshape(len(batch), -1)
    mean, spread = flat.mean(0), flat.std(0)
    if len(batch) < 2 or not bool((spread > 0).all()):
        raise ValueError(
            "expected a first batch of rows that differ in every coordinate, from which noise can "
            "be fitted, got one that does not. Give noise=, a distribution."
        )
    dim = flat.shape[1]
    if dim > _DENSE_UP_TO or len(batch) < 5 * dim:
        return mean, _WIDTH * spread
    covariance = flat.T.double().cov().reshape(dim, dim).to(flat)
    factor, failed = torch.linalg.cholesky_ex(_WIDTH**2 * covariance)
    return (mean, _WIDTH * spread) if int(failed) else (mean, factor)


def _draw(noise: Distribution, number: int, generator: torch.Generator) -> Tensor:
    """Draws [number, *event] without gradient; torch's distributions know its global stream only,
    which is put back afterwards."""
    return seeded(lambda n: noise.sample(torch.Size((n,))).detach())(number, generator)
