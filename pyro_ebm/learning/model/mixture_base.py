"""A mixture over rows of mixed columns: the base that a neural energy tilts.

Within a component the continuous coordinates are Gaussian and each discrete one has its own
probabilities, independent of all else; columns depend on one another through the component and
through the covariance. It is normalised and can be drawn from, so that a net added to it,
E(x) = net(x) - log base(x), has little left to learn, and log Z can be annealed from it.

It is fitted by expectation maximisation. Covariances lean towards their pooled one, larger or
smaller as a whole, and probabilities towards those of all rows, as far as few rows demand; how many
components there are is chosen by the log likelihood of rows left out. Where rows are few the
mixture is the mean of several, each fitted to rows drawn from them with replacement.

Source: Dempster, Laird, Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm;
Ledoit, Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices; Breiman
(1996), Bagging predictors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# Covariances are dense up to so many continuous coordinates.
_DENSE_UP_TO = 256
_ITERATIONS, _FOLDS = 40, 4
# Rows that a component wants at least.
ROWS_A_COMPONENT = 8
# Nats a row that an iteration has to gain for another.
_GAINED = 1e-3
MOST_ROWS = 5_000
# What a component takes of all rows' probabilities, in rows; and of the pooled covariance, as a
# share of all rows.
_PRIOR_ROWS = 2.0
_LEANS = (10.0, 3.0, 1.0, 0.3, 0.1)
# Rows that say how large a component is against the pooled covariance.
_SIZE_ROWS = 5.0
# Mixtures that few rows are fitted by, and what they may cost together: components times the
# entries of a covariance.
_BAGS, _FEW_ROWS, _BAGS_COST = 10, 1_000, 10**5
_FLOOR = 1e-3
_WIDER = 0.3
_CHEAP = 10**6
# The logarithm of a density far below any that is met, for states that are none.
_NEVER = -1e30


class MixtureBase(nn.Module):
    """A normalised mixture over rows [n, dim], with coordinates of states as whole numbers.

    :param num_states: [dim] how many states each coordinate has, 0 for a continuous one.
    :param log_weights: [K], normalised.
    :param mean: [K, c] of the continuous coordinates.
    :param factor: [K, c, c] Cholesky factors of the covariances, or [K, c] standard deviations.
    :param log_probabilities: [K, d, most] of the states of the discrete ones.
    """

    log_weights: Tensor
    mean: Tensor
    factor: Tensor
    log_probabilities: Tensor

    def __init__(
        self,
        num_states: Sequence[int],
        log_weights: Tensor,
        mean: Tensor,
        factor: Tensor,
        *,
        log_probabilities: Tensor,
    ) -> None:
        super().__init__()
        self.num_states = tuple(num_states)
        self.continuous = [i for i, count in enumerate(num_states) if count == 0]
        self.discrete = [i for i, count in enumerate(num_states) if count > 0]
        self.register_buffer("log_weights", log_weights)
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)
        self.register_buffer("log_probabilities", log_probabilities)
        if factor.dim() == 3:
            # What a density is made of, once and for all: x -> L^-1 (x - m).
            eye = torch.eye(factor.shape[-1]).to(factor)
            inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
            log_scale = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        else:
            inverse, log_scale = 1.0 / factor, factor.log().sum(-1)
        constant = 0.5 * len(self.continuous) * math.log(2.0 * math.pi)
        self.register_buffer("inverse", inverse)
        self.register_buffer("log_scale", log_scale + constant)

    inverse: Tensor
    log_scale: Tensor

    def by_component(self, rows: Float[Tensor, "n dim"]) -> Float[Tensor, "n components"]:
        """log(weight) + log density of each component."""
        found = self.log_weights.expand(len(rows), -1)
        if self.continuous:
            apart = rows[:, None, self.continuous] - self.mean
            if self.factor.dim() == 3:
                white = torch.einsum("kij,nkj->nki", self.inverse, apart)
            else:
                white = apart * self.inverse
            found = found - 0.5 * white.square().sum(-1) - self.log_scale
        for place, column in enumerate(self.discrete):
            table = self.log_probabilities[:, place].T
            found = found + table[rows[:, column].long()]
        return found

    def log_prob(self, rows: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """The log density of each row."""
        return self.by_component(rows).logsumexp(-1)

    def sample(self, number: int, generator: torch.Generator | None) -> Float[Tensor, "n dim"]:
        """Independent draws; None is torch's global stream."""
        kind = {"generator": generator, "dtype": self.mean.dtype, "device": self.mean.device}
        which = torch.multinomial(self.log_weights.exp(), number, True, generator=generator)
        rows = self.mean.new_empty(number, len(self.num_states))
        if self.continuous:
            noise = torch.randn(number, len(self.continuous), **kind)
            if self.factor.dim() == 3:
                moved = torch.einsum("nij,nj->ni", self.factor[which], noise)
            else:
                moved = self.factor[which] * noise
            rows[:, self.continuous] = self.mean[which] + moved
        for place, column in enumerate(self.discrete):
            shares = self.log_probabilities[which, place].exp()
            rows[:, column] = torch.multinomial(shares, 1, generator=generator)[:, 0].to(rows)
        return rows

    def around(self) -> MixtureBase:
        """The same with wider Gaussians, which reach around the data: in many dimensions less so,
        as nearly all of a Gaussian's volume lies near its surface."""
        by = 1.0 + _WIDER / math.sqrt(max(len(self.continuous), 1))
        return MixtureBase(
            self.num_states,
            self.log_weights,
            self.mean,
            self.factor * by,
            log_probabilities=self.log_probabilities,
        )


def fit_mixture(
    rows: Float[Tensor, "n dim"],
    num_states: Sequence[int],
    *,
    components: int | Sequence[int],
    generator: torch.Generator,
) -> MixtureBase:
    """A mixture fitted to rows, with as many components as tell most of rows left out.

    Among choices whose score lies within a standard error of the best the one of fewest parameters
    is taken: a base should not remember rows.

    :param num_states: [dim] how many states each coordinate has, 0 for a continuous one.
    :param components: how many, or among which numbers to choose.
    """
    like = rows
    rows = rows.detach().double()
    if len(rows) > MOST_ROWS:
        order = torch.randperm(len(rows), generator=generator, device=generator.device)
        rows = rows[order[:MOST_ROWS].to(rows.device)]
    numbers = [components] if isinstance(components, int) else list(components)
    numbers = [each for each in numbers if each == 1 or ROWS_A_COMPONENT * each <= len(rows)] or [1]
    # From the fewest parameters to the most.
    choices = [(number, lean) for number in numbers for lean in (_LEANS if number > 1 else (1.0,))]
    chosen = choices[0]
    if len(choices) > 1:
        order = torch.randperm(len(rows), generator=generator, device=generator.device)
        fold = (order % _FOLDS).to(rows.device)
        # One fold tells enough where rows are many, and where a fit takes long.
        folds = range(_FOLDS if len(rows) * rows.shape[1] ** 2 < _CHEAP else 1)
        scores = torch.stack(
            [
                torch.cat(
                    [
                        _fitted(rows[fold != f], num_states, choice, generator).log_prob(
                            rows[fold == f]
                        )
                        for f in folds
                    ]
                )
                for choice in choices
            ]
        )
        best = int(scores.mean(1).argmax())
        behind = scores[best] - scores
        error = behind.std(1) / math.sqrt(scores.shape[1])
        near = behind.mean(1) <= error
        chosen = choices[int(near.nonzero()[0, 0])]
    return _bagged(rows, num_states, chosen, generator).to(like)


def _bagged(
    rows: Tensor, num_states: Sequence[int], choice: tuple[int, float], generator: torch.Generator
) -> MixtureBase:
    """One mixture of many rows; of few the mean of several."""
    entries = max(sum(count == 0 for count in num_states), 1) ** 2
    number = min(_BAGS, _BAGS_COST // (choice[0] * entries)) if len(rows) <= _FEW_ROWS else 1
    if number < 2:
        return _fitted(rows, num_states, choice, generator)
    parts = []
    for _ in range(number):
        drawn = torch.randint(
            len(rows), (len(rows),), generator=generator, device=generator.device
        ).to(rows.device)
        parts.append(_fitted(rows[drawn], num_states, choice, generator))
    return MixtureBase(
        num_states,
        torch.cat([part.log_weights for part in parts]) - math.log(number),
        torch.cat([part.mean for part in parts]),
        torch.cat([part.factor for part in parts]),
        log_probabilities=torch.cat([part.log_probabilities for part in parts]),
    )


def _fitted(
    rows: Tensor, num_states: Sequence[int], choice: tuple[int, float], generator: torch.Generator
) -> MixtureBase:
    number, lean = choice
    share = _begun(rows, num_states, number, generator)
    found = _maximised(rows, num_states, share, lean)
    before = -math.inf
    for _ in range(_ITERATIONS if number > 1 else 0):
        joint = found.by_component(rows)
        now = float(joint.logsumexp(-1).mean())
        if now - before < _GAINED:
            break
        before = now
        found = _maximised(rows, num_states, joint.softmax(-1), lean)
    return found


def _begun(
    rows: Tensor, num_states: Sequence[int], number: int, generator: torch.Generator
) -> Tensor:
    """Shares [n, K] by the nearest of rows far from each other (k-means++)."""
    parts = [
        rows[:, i : i + 1] if count == 0 else _one_hot(rows[:, i], count)
        for i, count in enumerate(num_states)
    ]
    points = torch.cat(parts, 1)
    first = torch.randint(len(rows), (1,), generator=generator, device=generator.device)
    chosen = [int(first)]
    nearest = (points - points[chosen[0]]).square().sum(1)
    for _ in range(number - 1):
        weights = nearest.clamp(min=1e-12).to(generator.device)
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
    centres = points[chosen]
    for _ in range(10):
        which = torch.cdist(points, centres).argmin(1)
        one = _one_hot(which, number)
        centres = (one.T @ points + 1e-9 * centres) / (one.sum(0)[:, None] + 1e-9)
    return _one_hot(torch.cdist(points, centres).argmin(1), number)


def _maximised(rows: Tensor, num_states: Sequence[int], share: Tensor, lean: float) -> MixtureBase:
    """The mixture of rows with the shares [n, K] of its components."""
    continuous = [i for i, count in enumerate(num_states) if count == 0]
    discrete = [i for i, count in enumerate(num_states) if count > 0]
    total = share.sum(0) + 1e-6
    log_weights = (total / total.sum()).log()
    x = rows[:, continuous]
    mean = share.T @ x / total[:, None]
    factor = _factors(x, share, mean, lean)
    most = max([num_states[i] for i in discrete], default=1)
    table = rows.new_full((share.shape[1], len(discrete), most), _NEVER)
    for place, column in enumerate(discrete):
        one = _one_hot(rows[:, column], num_states[column])
        overall = (one.sum(0) + 1.0 / num_states[column]) / (len(rows) + 1.0)
        counts = share.T @ one + _PRIOR_ROWS * overall
        table[:, place, : num_states[column]] = (counts / counts.sum(1, keepdim=True)).log()
    return MixtureBase(num_states, log_weights, mean, factor, log_probabilities=table)


def _factors(x: Tensor, share: Tensor, mean: Tensor, lean: float) -> Tensor:
    """Cholesky factors [K, c, c] of covariances that lean towards the pooled one, each as large as
    its rows say; deviations [K, c] in many dimensions."""
    dim, total = x.shape[1], share.sum(0) + 1e-6
    prior = lean * len(x) / share.shape[1] + dim
    if dim > _DENSE_UP_TO:
        square = share.T @ x.square() - total[:, None] * mean.square()
        pooled = (square.sum(0) / total.sum()).clamp(min=_FLOOR)
        variance = (square + prior * pooled) / (total[:, None] + prior)
        return variance.clamp(min=_FLOOR).sqrt()
    scatter = torch.stack(
        [(part * (x - middle).T) @ (x - middle) for part, middle in zip(share.T, mean, strict=True)]
    )
    pooled = _shrunk(scatter.sum(0) / total.sum(), len(x))
    spread = (scatter * torch.linalg.inv(pooled)).sum((1, 2)) / max(dim, 1)
    size = (spread + _SIZE_ROWS) / (total + _SIZE_ROWS)
    covariance = scatter + prior * size[:, None, None] * pooled
    return torch.linalg.cholesky(covariance / (total[:, None, None] + prior))


def _shrunk(covariance: Tensor, number: int) -> Tensor:
    """A covariance that leans towards its diagonal by dim / (dim + 2 n)."""
    dim = len(covariance)
    lean = dim / (dim + 2.0 * number)
    diagonal = covariance.diagonal().clamp(min=_FLOOR)
    return (1.0 - lean) * covariance + (lean * diagonal + _FLOOR).diag()


def _one_hot(codes: Float[Tensor, " n"] | Int[Tensor, " n"], count: int) -> Tensor:
    return torch.nn.functional.one_hot(codes.long(), count).double()
