"""What a calibration found: ranks, whether they are uniform, and what it means if they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from pyro_ebm.inference_data import to_inference_data

from .uniformity import Uniformity, uniformity

# Standard errors beyond which a direction is worth naming.
_NOTABLE = 3.0
# Draws worth less than this share of their number are not independent enough for their ranks.
_INDEPENDENT = 0.2
# The share of chains that noise in their effective sizes alone can make look slow.
_SLOW_BY_CHANCE = 0.1
# Names listed in a sentence.
_LISTED = 6


class Calibration(NamedTuple):
    """The ranks of true values among posterior draws, of simulation after simulation.

    ``ranks`` [simulation, *event] by quantity lie in 0..num_draws; quantities are the continuous
    latent sites, the deterministic ones, and ``log_density``, the log joint density of parameters
    and data. They are uniform if model, data simulator and sampler fit together. ``prior`` and
    ``data`` [simulation, *event] are what was simulated. ``slow_chains`` [simulation] says which
    chains were worth less than a fifth of their draws, ``divergences`` [simulation] how many
    transitions of a chain diverged.
    """

    ranks: Mapping[str, Int[Tensor, "simulation ..."]]
    num_draws: int
    probability: float
    prior: Mapping[str, Tensor]
    data: Mapping[str, Tensor]
    slow_chains: Tensor
    divergences: Tensor
    thinning: int

    @property
    def num_simulations(self) -> int:
        """The number of simulated data sets."""
        return len(self.slow_chains)

    @property
    def num_quantities(self) -> int:
        """The number of scalars that are tested."""
        return sum(ranks[0].numel() for ranks in self.ranks.values())

    @property
    def level(self) -> float:
        """The p-value of one scalar at which the calibration fails: Bonferroni over all of them."""
        return (1 - self.probability) / self.num_quantities

    def uniformity(self) -> dict[str, Uniformity]:
        """The tests of uniformity, element by element, by quantity."""
        return {name: uniformity(ranks, self.num_draws) for name, ranks in self.ranks.items()}

    @property
    def passed(self) -> bool:
        """Whether no distribution of ranks leaves its simultaneous band."""
        return not any((u.p_value <= self.level).any() for u in self.uniformity().values())

    def why(self) -> str:
        """The verdict in sentences: which quantities fail, in which direction, and what to do."""
        found = sorted(_scalars(self.uniformity()), key=lambda scalar: scalar.p_value)
        failed = [scalar for scalar in found if scalar.p_value <= self.level]
        head = (
            f"{self.num_quantities} quantities in {self.num_simulations} simulations with "
            f"{self.num_draws} draws each"
        )
        if not failed:
            sentences = [
                f"Calibrated, as far as so many simulations can tell: of {head}, none has ranks "
                "that are seen to depart from uniform ones. The smallest p-value is "
                f"{found[0].p_value:.2g}, of {found[0].name}; below {self.level:.2g} it would tell."
                " More simulations see smaller errors."
            ]
        else:
            sentences = [
                f"Not calibrated: of {head}, {len(failed)} have ranks that are not uniform."
            ]
            sentences += [scalar.describe() for scalar in failed[:_LISTED]]
            if len(failed) > _LISTED:
                sentences.append(f"And {len(failed) - _LISTED} more.")
            sentences.append(
                "The simulated data, the density and the sampler do not fit together: look for a "
                "missing Jacobian, a wrong scale, or data that the model uses besides its sites."
            )
        sentences += self._troubles(bool(failed))
        return " ".join(sentences)

    def _troubles(self, failed: bool) -> list[str]:
        found = []
        slow, diverging = int(self.slow_chains.sum()), int((self.divergences > 0).sum())
        if slow > _SLOW_BY_CHANCE * self.num_simulations:
            found.append(
                f"{slow} of {self.num_simulations} chains moved slowly: their draws are worth less "
                f"than {_INDEPENDENT:.0%} of their number"
                + (", which alone can spoil ranks" if failed else "")
                + f"; raise thinning= (it was {self.thinning}) or warmup_steps=."
            )
        if diverging:
            found.append(
                f"{diverging} chains had divergent transitions: raise target_accept_prob, or "
                "reparametrise."
            )
        return found

    def __str__(self) -> str:
        return self.why()

    def to_arviz(self) -> Any:
        """ArviZ data with the simulations as draws of one chain.

        Groups ``prior``, ``prior_predictive``, and ``prior_sbc``: the share of posterior draws
        below the true value, ties and all, in (0, 1).
        """
        share = {
            name: (ranks.double() + 0.5) / (self.num_draws + 1)
            for name, ranks in self.ranks.items()
        }
        groups = {"prior": self.prior, "prior_predictive": self.data, "prior_sbc": share}
        return to_inference_data(
            {
                group: {name: value[None].cpu().numpy() for name, value in values.items()}
                for group, values in groups.items()
            },
            attrs={
                "num_simulations": self.num_simulations,
                "num_draws": self.num_draws,
                "thinning": self.thinning,
                "passed": self.passed,
                "why": self.why(),
            },
        )


class _Scalar(NamedTuple):
    name: str
    p_value: float
    mean_z: float
    spread_z: float

    def describe(self) -> str:
        """One sentence about a scalar whose ranks are not uniform."""
        means = []
        if abs(self.mean_z) > _NOTABLE:
            means.append(f"its draws lie too {'low' if self.mean_z > 0 else 'high'}")
        if abs(self.spread_z) > _NOTABLE:
            width = "narrow" if self.spread_z > 0 else "wide"
            means.append(f"its posteriors are too {width}")
        what = " and ".join(means) or "the shape of its posteriors is wrong"
        return f"{self.name}: {what} (p = {self.p_value:.1g})."


def _scalars(found: Mapping[str, Uniformity]) -> Iterator[_Scalar]:
    for name, tests in found.items():
        for index in np.ndindex(tests.p_value.shape):
            where = f"[{', '.join(map(str, index))}]" if index else ""
            yield _Scalar(
                f"'{name}{where}'",
                float(tests.p_value[index]),
                float(tests.mean_z[index]),
                float(tests.spread_z[index]),
            )


def slow_chains(ess: np.ndarray, num_draws: int) -> Tensor:
    """Which chains have a column of their effective sizes [simulation, columns] that is small."""
    return torch.as_tensor((np.nan_to_num(ess) < _INDEPENDENT * num_draws).any(1))
