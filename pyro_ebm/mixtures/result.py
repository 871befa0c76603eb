"""The posterior of a Gaussian mixture: draws whose components keep their names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.annealing import LogZ
from pyro_ebm.inference_data import to_inference_data

# Numbers in one table of draws against rows.
_LARGEST_TABLE = 2**23
RELABELLING = (
    "components of every draw are named so that memberships of rows agree best with their average "
    "(Stephens 2000), and numbered by their mean, along the first dimension"
)


class Band(NamedTuple):
    """A density at points [m]: its posterior mean, and the ends of an interval at each."""

    mean: Float[Tensor, " m"]
    low: Float[Tensor, " m"]
    high: Float[Tensor, " m"]


@dataclass(frozen=True)
class MixturePosterior:
    """Draws of a mixture given data, in the units of the data, and its evidence.

    Components keep their names from draw to draw, so that they can be averaged: see
    :mod:`.relabel`. They are numbered by their mean, along the first dimension.

    ``weight`` is [chains, draws, K], ``mean`` [chains, draws, K, d] and ``covariance`` [chains,
    draws, K, d, d]. ``evidence`` is the log evidence of this number of components.
    """

    weight: Float[Tensor, "chains draws components"]
    mean: Float[Tensor, "chains draws components d"]
    covariance: Float[Tensor, "chains draws components d d"]
    rows: Float[Tensor, "n d"]
    evidence: LogZ
    scalar: bool
    diagonal: bool
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def num_components(self) -> int:
        """K."""
        return self.weight.shape[-1]

    def __repr__(self) -> str:
        lines = [f"{self.num_components} components, log evidence {self.evidence}"]
        for k in range(self.num_components):
            parts = [f"weight {_of(self.weight[..., k])}"]
            for j in range(self.rows.shape[1]):
                place = "" if self.scalar else f" {j}"
                deviation = self.covariance[..., k, j, j].sqrt()
                parts += [f"mean{place} {_of(self.mean[..., k, j])}", f"sd{place} {_of(deviation)}"]
            lines.append(f"  {k}: " + ", ".join(parts))
        return "\n".join(lines)

    def log_density(self, points: Tensor) -> Float[Tensor, "draws m"]:
        """The log density of every draw, those of all chains together, at points [m] or [m, d].

        :raises ValueError: points of another number of dimensions.
        """
        return self._by_row(self._points(points), lambda joint: joint.logsumexp(1))

    def density(self, points: Tensor, *, prob: float = 0.9) -> Band:
        """The density of a further row: its posterior mean at points, and an interval at each.

        :param prob: the probability of the intervals.
        :raises ValueError: points of another number of dimensions, a probability outside (0, 1).
        """
        if not 0.0 < prob < 1.0:
            raise ValueError(f"expected prob in (0, 1), got {prob}.")
        density = self.log_density(points).exp()
        tail = density.new_tensor([0.5 - 0.5 * prob, 0.5 + 0.5 * prob])
        low, high = torch.quantile(density, tail, dim=0)
        return Band(density.mean(0), low, high)

    def membership(self, points: Tensor | None = None) -> Float[Tensor, "m components"]:
        """How probable each component is for each point, averaged over draws.

        :param points: [m] or [m, d]; the data unless given.
        :raises ValueError: points of another number of dimensions.
        """
        rows = self.rows if points is None else self._points(points)
        return self._by_row(rows, lambda joint: joint.softmax(1).mean(0)).T

    def to_arviz(self) -> Any:
        """ArviZ data: ``weight``, ``mean`` and ``variance`` or ``covariance`` by component, and the
        log likelihood of every row. The attribute ``relabelling`` says how components are named."""
        shape = self.weight.shape[:2]
        likelihood = self.log_density(self.rows).reshape(*shape, -1)
        mean = self.mean[..., 0] if self.scalar else self.mean
        variance = self.covariance.diagonal(dim1=-2, dim2=-1)
        spread = {"variance": variance[..., 0] if self.scalar else variance}
        if not self.diagonal:
            spread = {"covariance": self.covariance}
        groups = {
            "posterior": {"weight": self.weight, "mean": mean, **spread},
            "log_likelihood": {"x": likelihood},
            "observed_data": {"x": self.rows[:, 0] if self.scalar else self.rows},
        }
        return to_inference_data(
            {
                group: {k: v.cpu().numpy() for k, v in each.items()}
                for group, each in groups.items()
            },
            dims={
                "weight": ("component",),
                "mean": ("component", "dimension"),
                "variance": ("component", "dimension"),
                "covariance": ("component", "dimension", "dimension_across"),
                "x": ("row", "dimension"),
            },
            attrs={
                "inference_library": "pyro_ebm",
                "relabelling": RELABELLING,
                "log_evidence": self.evidence.log_z,
                "log_evidence_error": self.evidence.std_error,
                "reliable": self.evidence.reliable,
                "why": self.evidence.why,
                **self.attrs,
            },
        )

    def _points(self, points: Tensor) -> Tensor:
        given = torch.as_tensor(points).to(self.rows)
        rows = given[:, None] if given.dim() == 1 else given
        if rows.dim() != 2 or rows.shape[1] != self.rows.shape[1]:
            raise ValueError(
                f"expected points of {self.rows.shape[1]} dimensions, as the data have, got shape "
                f"{tuple(given.shape)}."
            )
        return rows

    def _by_row(self, rows: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
        """What there is of the log joint densities of rows, some at a time, along the last axis."""
        size = max(1, _LARGEST_TABLE // self.mean.numel())
        return torch.cat([of(self._log_joint(part)) for part in rows.split(size)], -1)

    def _log_joint(self, rows: Tensor) -> Float[Tensor, "draws components m"]:
        """log of weight times density of each component."""
        mean, covariance = self.mean.flatten(0, 1), self.covariance.flatten(0, 1)
        root = torch.linalg.cholesky(covariance)
        offset = rows.T - mean[..., None]
        white = torch.linalg.solve_triangular(root, offset, upper=False)
        log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.weight.flatten(0, 1).log() - log_det
        constant = constant - 0.5 * rows.shape[1] * math.log(2.0 * math.pi)
        return constant[..., None] - 0.5 * white.square().sum(-2)


def _of(draws: Tensor) -> str:
    """Mean and standard deviation."""
    return f"{float(draws.mean()):.3g} ± {float(draws.std()):.2g}"
