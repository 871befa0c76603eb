"""What is believed of the components of a mixture before the data.

Weights are Dirichlet. A mean is Gaussian, and a covariance, independently of it, an inverse gamma
for every dimension or an inverse Wishart. Given which row belongs to which component each of them
has a conditional of its own kind, at every power of the likelihood.

Source: Diebolt, Robert (1994), Estimation of finite mixture distributions through Bayesian
sampling; Richardson, Green (1997), On Bayesian analysis of mixtures with an unknown number of
components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .rows import as_rows

# The default prior of a mean is so many times as wide as the data, in standard deviations, and a
# component has this share of their variance on average, with so sure a shape.
_WIDTH, _SHARE, _SHAPE = 2.0, 0.5, 3.0
# A direction with less than this share of the variance of standardised data is rounding.
_LEAST_SHARE = 1e-10


class Hyper(NamedTuple):
    """A prior as numbers of one kind: ``mean_loc`` [d], and ``mean_tril`` and ``scale``, [d] of a
    diagonal covariance and [d, d] of a full one."""

    mean_loc: Tensor
    mean_tril: Tensor
    shape: float
    scale: Tensor
    concentration: float

    @property
    def full(self) -> bool:
        """Whether covariances are full."""
        return self.scale.dim() == 2

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the inverse Wishart."""
        return 2.0 * self.shape + len(self.mean_loc) - 1.0

    def standardised(self, center: Tensor, width: Tensor) -> Hyper:
        """The same prior of (x - center) / width."""
        across = width[:, None] if self.full else width
        product = width[:, None] * width if self.full else width.square()
        return self._replace(
            mean_loc=(self.mean_loc - center) / width,
            mean_tril=self.mean_tril / across,
            scale=self.scale / product,
        )


@dataclass(frozen=True)
class MixturePrior:
    """The prior of the components of a Gaussian mixture.

        weights ~ Dirichlet(concentration, ..., concentration)
        mean ~ Normal(mean_loc, mean_scale)
        variance ~ InverseGamma(variance_shape, variance_scale)          of every dimension, or
        covariance ~ InverseWishart(2 variance_shape + d - 1, 2 variance_scale)

    A ``variance_scale`` [d, d] stands for full covariances, and one of any other shape for diagonal
    ones. Every variance of the inverse Wishart is marginally InverseGamma(variance_shape, its
    element on the diagonal), so that in one dimension both are the same.

    :param mean_loc: a number or [d], in the units of the data.
    :param mean_scale: standard deviations, a number or [d]; with full covariances also a lower
        Cholesky factor [d, d].
    :param variance_shape: positive; the smaller, the heavier the tail of large variances.
    :param variance_scale: a number or [d], positive, or a covariance [d, d], in squared units.
    :param concentration: positive; 1 makes all weights alike probable.
    :raises ValueError: numbers that are not finite, or not positive where they have to be.
    """

    mean_loc: float | Tensor
    mean_scale: float | Tensor
    variance_shape: float
    variance_scale: float | Tensor
    concentration: float = 1.0

    def __post_init__(self) -> None:
        for name in ("variance_shape", "concentration"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0.0 < value < math.inf):
                raise ValueError(f"expected {name} to be a positive number, got {value!r}.")
        for name in ("mean_loc", "mean_scale", "variance_scale"):
            value = torch.as_tensor(getattr(self, name))
            most = 1 if name == "mean_loc" else 2
            if not bool(value.isfinite().all()) or value.dim() > most or value.numel() == 0:
                raise ValueError(
                    f"expected {name} to be finite, a number or of at most {most} dimensions, got "
                    f"{value}."
                )
            positive = value.diagonal() if value.dim() == 2 else value
            if name != "mean_loc" and not bool((positive > 0).all()):
                raise ValueError(f"expected {name} to be positive, got {value}.")
        if torch.as_tensor(self.mean_scale).dim() == 2 and not self.full:
            raise ValueError(
                "expected mean_scale to be a number or [d] where covariances are diagonal, got "
                f"{tuple(torch.as_tensor(self.mean_scale).shape)}. Give variance_scale as [d, d] "
                "for full ones."
            )
        if self.full:
            matrix = torch.as_tensor(self.variance_scale)
            symmetric = matrix.shape[0] == matrix.shape[1] and torch.allclose(matrix, matrix.T)
            if not symmetric or int(torch.linalg.cholesky_ex(matrix).info) != 0:
                raise ValueError(
                    "expected variance_scale to be a symmetric, positive definite matrix, got "
                    f"{matrix}."
                )

    @property
    def full(self) -> bool:
        """Whether covariances are full."""
        return torch.as_tensor(self.variance_scale).dim() == 2

    @classmethod
    def of(cls, data: Any, *, diagonal: bool = False, concentration: float = 1.0) -> MixturePrior:
        """A weak prior in the units of the data, which are looked at for nothing but these.

        Means lie about the mean of the data, twice as wide as these; a component has on average
        half of their covariance, with shape 3. So an affine map of the data maps the prior along,
        full covariances at any angle. The evidence of a number of components depends on both:
        see how much by giving others.

        :param data: [n] or [n, d].
        :param diagonal: whether the dimensions are independent within a component.
        :raises ValueError: data that are no such, or that do not vary.
        """
        rows = as_rows(data)
        center = rows.mean(0)
        share = _SHARE * (_SHAPE - 1.0)
        if diagonal or rows.shape[1] == 1:
            spread = rows.std(0)
            return cls(center, _WIDTH * spread, _SHAPE, share * spread.square(), concentration)
        covariance = torch.cov(rows.T)
        # Rounding leaves of a combination a little, which a Cholesky factor takes for a variance.
        least = float(torch.linalg.eigvalsh(torch.corrcoef(rows.double().T))[0])
        tril, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed) != 0 or not least > _LEAST_SHARE:
            raise ValueError(
                "expected data whose dimensions are not combinations of one another. Leave some "
                "out, or take diagonal=True."
            )
        return cls(center, _WIDTH * tril, _SHAPE, share * covariance, concentration)

    def hyper(self, rows: Tensor) -> Hyper:
        """The prior for rows [n, d].

        :raises ValueError: another number of dimensions.
        """
        d = rows.shape[1]
        loc, width, scale = (
            torch.as_tensor(value).detach().to(rows)
            for value in (self.mean_loc, self.mean_scale, self.variance_scale)
        )
        for name, value in (("mean_loc", loc), ("mean_scale", width), ("variance_scale", scale)):
            if value.dim() > 0 and any(size not in (1, d) for size in value.shape):
                raise ValueError(
                    f"expected {name} for {d} dimensions, as the data have, got shape "
                    f"{tuple(value.shape)}."
                )
        if self.full:
            tril = width.tril() if width.dim() == 2 else torch.diag(width.expand(d))
            return Hyper(loc.expand(d), tril, self.variance_shape, scale, self.concentration)
        return Hyper(
            loc.expand(d),
            width.expand(d),
            self.variance_shape,
            scale.expand(d),
            self.concentration,
        )
