"""Which distributions weigh as they draw: normalised, unmasked, unscaled, of continuous values.

A base has to, as log Z is told from it: whatever its own density lacks, the estimate has too much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyro.distributions import Delta, ImproperUniform, MaskedDistribution
from torch.distributions import Distribution


def why_no_base(given: Distribution) -> str | None:
    """The reason why a distribution cannot be a base, None when it can."""
    reason = _why_not_normalised(given)
    return "its values are discrete" if reason is None and _is_discrete(given) else reason


def _why_not_normalised(given: Distribution) -> str | None:
    for fn in _inside(given):
        if isinstance(fn, MaskedDistribution):
            return "it is masked, and draws from what it does not weigh"
        if isinstance(fn, ImproperUniform):
            return "it is improper"
        if isinstance(fn, Delta):
            return "it has no density"
        if hasattr(fn, "energy_value") and not getattr(fn, "normalized", False):
            return "its normaliser is not known (give it log_normalizer=)"
    return None


def why_not_as_drawn(node: Mapping[str, Any]) -> str | None:
    """The reason why a sampled site of a model or guide, of whatever values, does not weigh as it
    is drawn."""
    plain = isinstance(node["scale"], int | float) and node["scale"] == 1.0
    if node["mask"] is not None or not plain:
        return "it is masked or scaled"
    return _why_not_normalised(node["fn"])


def _is_discrete(given: Distribution) -> bool:
    try:
        support: Any = given.support
    except NotImplementedError:
        # Flows that do not say live where their base does.
        return False
    return bool(support.is_discrete)


def is_energy(given: Any) -> bool:
    """Whether a distribution is, at its core, an energy, which has no sampler of its own."""
    return any(hasattr(fn, "energy_value") for fn in _inside(given))


def _inside(given: Any) -> Iterator[Any]:
    yield given
    while hasattr(given, "base_dist") and not hasattr(given, "energy_value"):
        given = given.base_dist
        yield given
