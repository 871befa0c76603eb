"""What a latent-variable model tells: posterior draws, new rows, a bound on the likelihood."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.inference_data import to_inference_data


class Latents(NamedTuple):
    """Posterior draws of the latents of rows.

    :ivar draws: [chain, draw, n, d].
    :ivar rhat: split R-hat [n, d]: well above 1.01 where chains found different answers, or were
        too short.
    :ivar ess: effective draws of the mean [n, d].
    :ivar acceptance: the mean acceptance rate.
    """

    draws: Float[Tensor, "chain draw n d"]
    rhat: np.ndarray
    ess: np.ndarray
    acceptance: float

    @property
    def mean(self) -> Float[Tensor, "n d"]:
        """Posterior means."""
        return self.draws.mean((0, 1))

    def __repr__(self) -> str:
        chains, draws, rows, dim = self.draws.shape
        return (
            f"Latents({rows} rows of {dim}, {chains} chains of {draws} draws, acceptance "
            f"{self.acceptance:.2f}, R-hat below {np.nanquantile(self.rhat, 0.9):.3f} for nine of "
            "ten numbers)"
        )

    def to_arviz(self) -> Any:
        """ArviZ data with the draws as ``z``."""
        return to_inference_data(
            {"posterior": {"z": self.draws.cpu().numpy()}},
            dims={"posterior/z": ("row", "latent")},
            attrs={"inference_library": "pyro_ebm", "acceptance": self.acceptance},
        )


class Generated(NamedTuple):
    """New rows ``values`` [n, *event], with their ``means`` given the ``latents`` [n, d]."""

    latents: Tensor
    means: Tensor
    values: Tensor


class LikelihoodBound(NamedTuple):
    """A lower bound on log p(x) in nats, row by row.

    :ivar log_likelihoods: E log of the mean of K importance weights, one draw of it for each row.
    :ivar std_error: of their mean, from row to row.
    :ivar log_z: of the energy prior, with ``log_z_error``, which shifts all rows together.
    :ivar reliable: whether log Z is to be trusted.
    :ivar why: a sentence.
    """

    log_likelihoods: Float[Tensor, " n"]
    std_error: float
    log_z: float
    log_z_error: float
    reliable: bool
    why: str

    @property
    def mean(self) -> float:
        """Nats a row."""
        return float(self.log_likelihoods.mean())

    def __repr__(self) -> str:
        return (
            f"LikelihoodBound({self.mean:.2f} ± {self.std_error:.2f} nats a row, log Z "
            f"{self.log_z:.2f} ± {self.log_z_error:.2f}: {self.why})"
        )
