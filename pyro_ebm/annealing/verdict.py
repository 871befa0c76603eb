"""Whether an annealed estimate is to be trusted, and a sentence that says why.

Good weights are necessary and never sufficient: particles that have all missed the same region
agree with one another. So an estimate is called reliable only when draws of the target, annealed
backwards, come to the same log Z; when the base is as wide as these draws in every direction; and
when chains from dispersed starts have found nothing that the particles do not reach. What neither
the base nor any chain has met, nobody can notice. States have no width: there it is the first check
and the last, with chains from random states and from the lowest that simulated annealing finds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .bennett import forward_discrepancy
from .log_z import Backward
from .weights import effective_sample_size, standard_error

LEAST_ESS, LARGEST_KHAT, LARGEST_SHARE = 100.0, 0.7, 0.1
# The tail is not judged while the largest weight is so few times their mean. Of a thousand weights
# with a tail of k-hat 0.7 it would be about a hundred times. Weights within a few means are no
# rare particles: each has a share of a few in n, and the error of their mean is known. Over a few
# states they come in clusters, and of these k-hat tells nothing.
_NO_TAIL = 4.0
# Standard errors between forwards and backwards, and the largest error with which that says much.
_APART, _BLUNT = 3.0, 0.5
# Both ends share most of their error, and nearly all of it where weights are cut off rather than
# spread: a gap far below the error that is stated would then count. It is no matter for log Z, and
# may come from rounding or from draws that still move on; its error is at least this part of it.
_PART = 0.1
_ROUNDING = 1e-6
_LEAST_OVERLAP = 0.02
_FEWEST_DRAWS = 16
# So many of the draws may lie at the border of the support, as far as numbers can tell.
_AT_BORDER = 0.005
# Out of the range of nearly all draws by so many times its length.
_FAR_OUT = 10.0
# A direction is too narrow when the draws' spread, taken low, is so many times the base's.
_TOO_NARROW = 1.15
# A mode so many nats below log Z does not matter, nor do so few chains.
_NEGLIGIBLE, _FEW = 7.0, 0.03
_NEVER_MET = "What neither the base nor any chain has met cannot be noticed."


def weight_problems(log_weights: Tensor, khat: float) -> list[str]:
    """What the forward weights themselves say against the estimate."""
    n = len(log_weights)
    if not bool((log_weights > -torch.inf).any()):
        return [
            f"all {n} weights are zero: no particle has ended where the density is positive. The "
            "base misses the support of the target"
        ]
    found = []
    ess = effective_sample_size(log_weights)
    share = float(log_weights.softmax(0).max())
    if share > LARGEST_SHARE:
        found.append(f"one particle of {n} carries {share:.0%} of the weight")
    if ess < LEAST_ESS:
        found.append(
            f"the {n} weights are worth {ess:.0f} equal ones, fewer than {LEAST_ESS:.0f}; "
            "take more particles or more temperatures"
        )
    if has_heavy_tail(log_weights, khat):
        found.append(
            f"the weights have a heavy tail (k-hat {khat:.2f}, above {LARGEST_KHAT}): their mean "
            "is carried by rare particles, and its error is not known; take a wider base"
        )
    return found


def has_heavy_tail(log_weights: Tensor, khat: float) -> bool:
    """Whether rare particles may carry the mean weight: k-hat is large, and of weights that are not
    nearly equal."""
    largest = float(log_weights.softmax(0).max()) * len(log_weights)
    return khat > LARGEST_KHAT and largest > _NO_TAIL


def support_problems(log_density: Tensor, positions: Tensor) -> list[str]:
    """What log densities [n] of the target at draws [dim, n] of the base say.

    NaN far beyond where nearly all draws lie is taken for what numbers too large come to.
    """
    found = []
    low, middle, high = _quantiles(positions, [0.01, 0.5, 0.99])
    far = (positions.double() - middle).abs() > _FAR_OUT * (high - low)
    nan = float((log_density.isnan() & ~far.any(0)).double().mean())
    if nan > 0.0:
        found.append(
            f"the energy is NaN at {nan:.1%} of the draws of the base; these count as impossible, "
            "which may or may not be meant. Make the energy finite or +inf on its whole support"
        )
    if bool((log_density == torch.inf).any()):
        found.append("the energy is -inf somewhere: the density cannot be normalised there")
    return found


def backward_problems(log_weights: Tensor, backward: Backward, num_independent: float) -> list[str]:
    """What draws annealed backwards, worth so many independent ones, say against the forward
    estimate."""
    works = backward.works
    if num_independent < _FEWEST_DRAWS:
        return [
            f"only {num_independent:.0f} independent draws of the target were annealed backwards: "
            "enough for bounds where they are exact, too few for a check"
        ]
    if not bool(works.isfinite().all()):
        count = int((~works.isfinite()).sum())
        return [
            f"the base gives no density to {count} of {len(works)} draws of the target: it misses "
            "part of the support"
        ]
    difference, error = forward_discrepancy(
        log_weights, works, num_backward_independent=num_independent
    )
    if not error <= _BLUNT:
        return [
            "with draws of the target annealed backwards log Z is only known to "
            f"± {error:.2g}: the check against them is blunt"
        ]
    error = max(error, _PART * standard_error(log_weights))
    if abs(difference) > _APART * error + _ROUNDING:
        return [
            "with draws of the target annealed backwards log Z comes out "
            f"{difference:+.3f} ± {error:.2g} from what the forward weights say, "
            f"{abs(difference) / max(error, _ROUNDING):.1f} errors: one of the two has missed a "
            "region"
        ]
    if overlap(log_weights, works) < _LEAST_OVERLAP:
        return ["the works forwards and backwards hardly overlap; take more temperatures"]
    return []


def border_problems(share: float) -> list[str]:
    """Whether too many draws lie where values are those of the border of their support."""
    if share <= _AT_BORDER:
        return []
    return [
        f"{share:.1%} of the draws of the target lie so close to the border of their support that "
        "their values are rounded to it: mass beyond is not seen. Write the model in coordinates "
        "in which this mass is spread (a logarithm, a logit)"
    ]


def overlap(forward: Tensor, backward: Tensor) -> float:
    """The share of backward works that lie within the central 98 % of the forward ones."""
    finite = forward[forward > -torch.inf].double()
    low, high = torch.quantile(finite, finite.new_tensor([0.01, 0.99]))
    rounding = _ROUNDING * finite.abs().max().clamp(min=1.0)
    inside = (backward >= low - rounding) & (backward <= high + rounding)
    return float(inside.double().mean())


def narrow_directions(
    base_draws: Tensor, target_draws: Tensor, num_independent: float
) -> list[str]:
    """Whether draws [dim, m] of the target, worth so many independent ones, are wider than those
    [dim, n] of the base anywhere.

    Directions are the principal ones of half of the target's draws in coordinates in which the base
    is white; spreads, between the 5 % and the 95 % quantile, are those of the other half.
    """
    base = base_draws[:, base_draws.isfinite().all(0)].double()
    draws = target_draws[:, target_draws.isfinite().all(0)].double()
    dim = len(base)
    if base.shape[1] < 2 * dim or draws.shape[1] < 4:
        return []
    low, middle, high = _quantiles(base, [0.05, 0.5, 0.95])
    scale = (high - low).clamp(min=1e-300)
    base, draws = ((x - middle) / scale for x in (base, draws))
    clipped = base.clamp(-3.0, 3.0)
    values, vectors = torch.linalg.eigh(torch.cov(clipped).reshape(dim, dim))
    whiten = (vectors / values.clamp(min=1e-12).sqrt()).T
    base, draws = whiten @ base, whiten @ draws
    first, second = draws[:, ::2], draws[:, 1::2]
    _, directions = torch.linalg.eigh(torch.cov(first.clamp(-3.0, 3.0)).reshape(dim, dim))
    # The draws are few: their quantiles are moved inwards by as much as chance may move them out.
    inside = min(0.4, 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / (0.5 * num_independent)))
    of_base = _quantiles(directions.T @ base, [0.05, 0.95])
    of_draws = _quantiles(directions.T @ second, [inside, 1.0 - inside])
    ratio = (of_draws[1] - of_draws[0]) / (of_base[1] - of_base[0]).clamp(min=1e-300)
    worst = float(ratio.max())
    if worst > _TOO_NARROW:
        return [
            f"the base is too narrow: in one direction the target is {worst:.2g} times as wide. "
            "Take a wider base"
        ]
    return []


def _quantiles(x: Tensor, levels: list[float]) -> Tensor:
    """Of every row of x [dim, n], as [levels, dim, 1]."""
    x = x.double()
    return torch.quantile(x, x.new_tensor(levels), dim=1, keepdim=True)


def is_unreached(log_z: float, works: Tensor, num_particles: int) -> Tensor:
    """Which chains [m] from dispersed starts lie where hardly a particle ends.

    exp(work - log Z) of a chain is how much likelier the target is around it than the particles are
    to end there, so that beyond the number of particles none of them may have come.
    """
    return works - log_z > math.log(num_particles)


def unreached_regions(log_z: float, unreached: Tensor, log_masses: list[float]) -> list[str]:
    """Whether the chains that no particle reaches lie where the target has mass.

    :param log_masses: what the modes that these chains belong to weigh; -inf where that cannot be
        told, which counts as much.
    """
    total = len(unreached)
    heavy = [mass for mass in log_masses if mass == -math.inf or mass > log_z - _NEGLIGIBLE]
    if len(heavy) >= max(2, _FEW * total):
        return [
            f"{len(heavy)} of {total} chains from dispersed starts lie where the particles hardly "
            "come: a region is missed. Take a base that covers it"
        ]
    return []


def sentence(problems: list[str], *, checked_backwards: bool) -> str:
    """The verdict in words."""
    if problems:
        return "; ".join(problems) + "."
    if not checked_backwards:
        return (
            "Not contradicted by its own weights; but nothing was annealed backwards from draws of "
            "the target, so that a region that all particles have missed would not show."
        )
    return (
        "Forwards from the base and backwards from draws of the target agree, the base is as wide "
        f"as the draws, and the weights are even. {_NEVER_MET}"
    )
