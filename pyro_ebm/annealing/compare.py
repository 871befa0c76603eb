"""Estimates of log Z side by side: of several models, how probable each is; of one, what differs.

With prior probabilities pi_k, model k has after the data the probability

    pi_k Z_k / sum_j pi_j Z_j.

The errors of the estimates are carried through by drawing every log Z from a Gaussian with its
error, independently, and taking quantiles of the probabilities. Of one model estimated by several
methods the probabilities mean nothing: there the differences are to look at, with their errors.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .log_z import LogZ
from .start import check_whole


@dataclass(frozen=True)
class Comparison:
    """Estimates side by side, the highest log Z first; prints as a table.

    ``table`` holds by name, in this order: ``log_z`` and ``std_error``; the ``difference`` to the
    highest and ``difference_error``; the ``probability`` with the ends ``probability_low`` and
    ``probability_high`` of its interval; ``reliable``, ``why`` and ``method``. ``interval`` is the
    probability of the interval.
    """

    table: Mapping[str, Mapping[str, Any]]
    interval: float

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        """The row of one estimate."""
        return self.table[name]

    def __repr__(self) -> str:
        share = f"{100 * self.interval:.3g} %"
        head = ("", "log Z", "error", "difference", "error", "probability", share, "", "method")
        rows: list[tuple[str, ...]] = [head]
        for name, row in self.table.items():
            rows.append(
                (
                    name,
                    _number(row["log_z"], row["std_error"]),
                    _number(row["std_error"], row["std_error"]),
                    _number(row["difference"], row["difference_error"]),
                    _number(row["difference_error"], row["difference_error"]),
                    _share(row["probability"]),
                    f"{_share(row['probability_low'])} - {_share(row['probability_high'])}",
                    "" if row["reliable"] else "not reliable",
                    row["method"],
                )
            )
        # Names and methods to the left, numbers to the right; no column for what nobody has.
        columns = [column for column in zip(*rows, strict=True) if any(column)]
        last = len(columns) - 1
        aligned = []
        for i, column in enumerate(columns):
            width = max(map(len, column))
            left = i in (0, last)
            aligned.append([text.ljust(width) if left else text.rjust(width) for text in column])
        return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def compare_evidence(
    estimates: Mapping[str, LogZ] | Iterable[tuple[str, LogZ]],
    *,
    prior: Mapping[str, float] | None = None,
    interval: float = 0.9,
    num_draws: int = 20_000,
) -> Comparison:
    """Compare the evidence of models, or what several methods say of one.

    :param estimates: by name, or pairs of name and estimate; independent of one another, as those
        of separate runs are.
    :param prior: how probable each model is before the data, up to a common factor; equally unless
        given. A model of none has none afterwards.
    :param interval: the probability of the intervals of the probabilities.
    :param num_draws: draws of the log Z that the intervals come from.
    :raises ValueError: no estimates, one name twice, an estimate without a finite log Z and error,
        or a prior that does not fit.
    :raises TypeError: something else than estimates.

    A warning names the estimates that are not reliable: the errors of these are not to be believed,
    and so neither are the probabilities.
    """
    named = _named(estimates)
    if not 0.0 < interval < 1.0:
        raise ValueError(f"expected interval in (0, 1), got {interval}.")
    check_whole("num_draws", num_draws, 100)
    doubtful = [name for name, estimate in named.items() if not estimate.reliable]
    if doubtful:
        why = "; ".join(f"{name!r}: {named[name].why}" for name in doubtful)
        warnings.warn(
            f"{len(doubtful)} of {len(named)} estimates {'are' if len(doubtful) > 1 else 'is'} not "
            f"reliable, so that errors and probabilities may be wrong. {why}",
            stacklevel=2,
        )
    kind: dict = {"dtype": torch.float64, "device": "cpu"}
    log_prior = torch.tensor(check_prior(prior, list(named)), **kind)
    log_z = torch.tensor([e.log_z for e in named.values()], **kind)
    error = torch.tensor([e.std_error for e in named.values()], **kind)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    noise = torch.randn(num_draws, len(named), generator=generator, **kind)
    drawn = (log_z + error * noise + log_prior).softmax(1)
    tail = 0.5 * (1.0 - interval)
    low, high = torch.quantile(drawn, torch.tensor([tail, 1.0 - tail], **kind), dim=0)
    probability = (log_z + log_prior).softmax(0)
    best = int(log_z.argmax())
    names = list(named)
    table = {}
    for i in torch.argsort(log_z, descending=True, stable=True).tolist():
        estimate = named[names[i]]
        table[names[i]] = {
            "log_z": estimate.log_z,
            "std_error": estimate.std_error,
            "difference": estimate.log_z - float(log_z[best]),
            "difference_error": 0.0 if i == best else math.hypot(error[i], error[best]),
            "probability": float(probability[i]),
            "probability_low": float(low[i]),
            "probability_high": float(high[i]),
            "reliable": estimate.reliable,
            "why": estimate.why,
            "method": estimate.method,
        }
    return Comparison(table, interval)


def _named(estimates: Mapping[str, LogZ] | Iterable[tuple[str, LogZ]]) -> dict[str, LogZ]:
    """The estimates by name, each checked."""
    if isinstance(estimates, LogZ):
        raise TypeError("expected {name: estimate}, got a single estimate without a name.")
    pairs = list(estimates.items() if isinstance(estimates, Mapping) else estimates)
    if not pairs:
        raise ValueError("expected at least one estimate to compare, got none.")
    named: dict[str, LogZ] = {}
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"expected {{name: estimate}} or pairs of these, got {pair!r}.")
        name, estimate = pair
        if not isinstance(name, str):
            raise TypeError(f"expected names to be strings, got {name!r}.")
        if name in named:
            raise ValueError(f"expected a name of its own for every estimate, got {name!r} twice.")
        if not isinstance(estimate, LogZ):
            raise TypeError(
                f"expected {name!r} to be an estimate as run() gives it, a LogZ, got "
                f"{type(estimate).__name__}."
            )
        known = math.isfinite(estimate.log_z) and math.isfinite(estimate.std_error)
        if not known or estimate.std_error < 0.0:
            raise ValueError(
                f"expected a finite log Z and error for {name!r}, got {estimate.log_z} ± "
                f"{estimate.std_error}: {estimate.why} Leave it out, or estimate it anew."
            )
        named[name] = estimate
    return named


def check_prior(prior: Mapping[str, float] | None, names: list[str]) -> list[float]:
    """Logarithms of prior probabilities, up to a common one.

    :raises ValueError: other names, or what are no probabilities.
    """
    if prior is None:
        return [0.0] * len(names)
    if set(prior) != set(names):
        raise ValueError(f"expected a prior for each of {names}, got one for {list(prior)}.")
    values = [float(prior[name]) for name in names]
    if not all(0.0 <= value < math.inf for value in values) or sum(values) == 0.0:
        raise ValueError(
            f"expected prior probabilities that are not negative, and not all zero, got {values}."
        )
    return [math.log(value) if value > 0.0 else -math.inf for value in values]


def _number(value: float, error: float) -> str:
    """With two figures of its error, three places unless that is small."""
    digits = 3
    if error > 0.0:
        digits = min(8, max(3, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f}"


def _share(value: float) -> str:
    """A probability, with the figures that tell it from 0 and 1."""
    if 0.0 < value < 1e-3:
        return f"{value:.0e}"
    if 0.999 < value < 1.0:
        return f"1 - {1.0 - value:.0e}"
    return f"{value:.3f}"
