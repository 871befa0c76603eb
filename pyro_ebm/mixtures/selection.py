"""How many components a mixture has: evidence beside BIC."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyro_ebm.annealing import Comparison, LogZ, compare_evidence
from pyro_ebm.annealing.compare import check_prior

from .result import MixturePosterior
from .rows import as_rows

if TYPE_CHECKING:
    from .mixture import GaussianMixture

_STARTS = 20
_UNLIKE = 1e3
_LEARN_MORE = (
    "BIC needs scikit-learn, which is not installed, and is NaN. Install it with "
    "pip install 'pyro_ebm[sklearn]'."
)


@dataclass(frozen=True)
class Selection:
    """Numbers of components side by side; prints as a table.

    ``posteriors`` holds the posterior of each number; ``bic`` scikit-learn's, minus two log
    likelihoods at the maximum plus log n for each parameter, the lower the better;
    ``comparison`` the probabilities, and their intervals from the errors of the evidences.

    The likelihood of a mixture has many maxima, and no highest: it grows without bounds where a
    component shrinks onto few rows. ``bic`` takes the highest that 20 starts in either units of the
    columns have found. Of more components than the data ask for, other starts find others, so that
    it may differ by tens from one run to the next; their evidence does not.
    """

    posteriors: Mapping[int, MixturePosterior]
    bic: Mapping[int, float]
    comparison: Comparison

    @property
    def components(self) -> list[int]:
        """The numbers of components, ascending."""
        return sorted(self.posteriors)

    @property
    def evidence(self) -> dict[int, LogZ]:
        """The log evidence of each number."""
        return {k: self.posteriors[k].evidence for k in self.components}

    @property
    def probability(self) -> dict[int, float]:
        """The posterior probability of each number."""
        return {k: self.comparison[str(k)]["probability"] for k in self.components}

    @property
    def most_probable(self) -> int:
        """The number with the highest posterior probability."""
        return max(self.components, key=lambda k: self.probability[k])

    @property
    def lowest_bic(self) -> int | None:
        """The number that BIC prefers; None where it is not known."""
        known = [k for k in self.components if math.isfinite(self.bic[k])]
        return min(known, key=lambda k: self.bic[k]) if known else None

    @property
    def reliable(self) -> bool:
        """Whether every evidence is."""
        return all(each.reliable for each in self.evidence.values())

    def to_xarray(self) -> Any:
        """The table as an xarray Dataset over ``components``."""
        import xarray

        rows = [self.comparison[str(k)] for k in self.components]
        names = ("log_z", "std_error", "probability", "probability_low", "probability_high")
        values = {name: ("components", [row[name] for row in rows]) for name in names}
        values["reliable"] = ("components", [row["reliable"] for row in rows])
        values["bic"] = ("components", [self.bic[k] for k in self.components])
        attrs = {"interval": self.comparison.interval}
        return xarray.Dataset(values, coords={"components": self.components}, attrs=attrs)

    def __repr__(self) -> str:
        share = f"{100 * self.comparison.interval:.3g} %"
        lines = [f"{'K':>2}  {'log Z':>10}  error  probability  {share:>15}         BIC"]
        for k in self.components:
            row = self.comparison[str(k)]
            ends = f"{row['probability_low']:.3f} - {row['probability_high']:.3f}"
            note = "" if row["reliable"] else "  not reliable"
            lines.append(
                f"{k:>2}  {row['log_z']:>10.3f}  {row['std_error']:.3f}  "
                f"{row['probability']:>11.3f}  {ends:>15}  {self.bic[k]:>10.2f}{note}"
            )
        return "\n".join(lines)


def numbers_among(components: object) -> list[Any]:
    """The numbers of components that are compared.

    :raises TypeError: there are no several.
    """
    if not isinstance(components, Iterable):
        raise TypeError(
            "expected components to be the numbers that are compared, such as range(1, 4), got "
            f"{components!r}."
        )
    return list(components)


def select(
    mixtures: Sequence[GaussianMixture],
    data: Any,
    *,
    prior_probability: Mapping[int, float] | None = None,
) -> Selection:
    """Fit each, and compare.

    :param mixtures: of different numbers of components.
    :param prior_probability: by number of components; alike unless given.
    """
    numbers = [mixture.num_components for mixture in mixtures]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"expected different numbers of components, got {numbers}.")
    rows = as_rows(data)
    named = None
    if prior_probability is not None:
        named = {str(k): float(value) for k, value in prior_probability.items()}
    check_prior(named, [str(k) for k in sorted(numbers)])
    posteriors = {each.num_components: each.fit(data) for each in mixtures}
    evidences = {str(k): posteriors[k].evidence for k in sorted(posteriors)}
    comparison = compare_evidence(evidences, prior=named)
    return Selection(posteriors, bics(mixtures, rows), comparison)


def bics(mixtures: Sequence[GaussianMixture], rows: Tensor) -> dict[int, float]:
    """scikit-learn's, in the units of the rows, from the best of several starts; NaN where there
    are fewer rows than components.

    It starts from k-means, which depends on the units of columns: one half of the starts is made
    with all columns of one spread, the other with their spreads as they are. It also adds 1e-6 to
    variances, and is given rows whose narrowest column has variance one.
    """
    try:
        from sklearn.mixture import GaussianMixture as Fitted
    except ImportError:
        warnings.warn(_LEARN_MORE, stacklevel=4)
        return {each.num_components: math.nan for each in mixtures}
    whole = rows.cpu().double()
    width = whole.std(0)
    units, found = [width], {}
    # Columns of very unlike spreads have covariances that it calls ill-defined.
    if 1.0 < float(width.max() / width.min()) < _UNLIKE:
        units.append(width.min().expand_as(width))
    scaled = [((whole - whole.mean(0)) / unit, 2.0 * float(unit.log().sum())) for unit in units]
    for each in mixtures:
        diagonal = rows.shape[1] > 1 and each.prior is not None and not each.prior.full
        kind = "diag" if diagonal else "full"
        if each.equal_variance:
            kind = "none" if diagonal else "tied"
        # scikit-learn has no diagonal covariance that is shared.
        if kind == "none" or len(whole) < each.num_components:
            found[each.num_components] = math.nan
            continue
        fitted = Fitted(
            each.num_components,
            covariance_type=kind,
            n_init=_STARTS,
            max_iter=500,
            random_state=int(torch.randint(2**31, ())),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of the starts that do not converge.
            found[each.num_components] = min(
                len(whole) * jacobian + float(fitted.fit(values.numpy()).bic(values.numpy()))
                for values, jacobian in scaled
            )
    return found
