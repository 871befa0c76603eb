"""Doubly-intractable posteriors: observed energies whose log Z follows a latent site, unknown.

With p(x | theta) = f(x; theta) / Z(theta) the posterior's own density has an unknown factor that
moves with theta. Samplers made for this need two things of a model: which of its sites are of that
kind, and the rest of the log density with log f in place of log p.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from pyro.ops.provenance import get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Independent

from .given import tensors_in
from .model import parents_of_missing, tagged_sites


class Intractable(NamedTuple):
    """An observed site without its log Z, and the latent sites that this depends on."""

    name: str
    parents: tuple[str, ...]


def intractable_sites(
    model: Callable, args: tuple, kwargs: Mapping[str, Any]
) -> tuple[Intractable, ...]:
    """The observed sites of a model whose normaliser is missing and depends on latent sites.

    Raises:
        ValueError: there is none; one is not observed, has a discrete parent, a support that
            depends on a latent site, a scale, a mask, or a transform.
    """
    sites = [s for s in tagged_sites(model, args, kwargs) if not site_is_subsample(s)]
    discrete = {site["name"] for site in sites if site["fn"].support.is_discrete}
    found = []
    for site in sites:
        parents = parents_of_missing(site)
        if parents:
            _refuse(site, parents & discrete)
            order = (other["name"] for other in sites)
            found.append(Intractable(site["name"], tuple(n for n in order if n in parents)))
    if not found:
        raise ValueError(
            "expected an observed EnergyDistribution whose log Z depends on a latent site and is "
            "not known, found none in this model: every normaliser is known, or constant. "
            "MCMC(NUTS(model)) samples it."
        )
    return tuple(found)


def without_normalizers(model: Callable, names: Container[str]) -> Callable:
    """The model with log f in place of log p = log f - log Z at some of its sites."""

    @functools.wraps(model, updated=())
    def unnormalised(*args: Any, **kwargs: Any) -> Any:
        with _LeaveOut(names):
            return model(*args, **kwargs)

    return unnormalised


class _LeaveOut(Messenger):
    def __init__(self, names: Container[str]) -> None:
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names:
            msg["fn"] = _left_out(msg["fn"])


def _left_out(fn: Any) -> Any:
    if not hasattr(fn, "base_dist"):
        return fn.without_normalizer()
    new = copy.copy(fn)
    new.base_dist = _left_out(fn.base_dist)
    return new


def _refuse(site: Any, discrete: frozenset[str]) -> None:
    """Refuse a site that auxiliary draws cannot stand in for.

    Raises:
        ValueError: says why, and what can be done.
    """
    name, fn = site["name"], site["fn"]
    if not site["is_observed"]:
        raise ValueError(
            f"The unnormalised site {name!r} is latent, and its log Z depends on other latent "
            "sites. Exchange needs the site observed: give obs=, or log_normalizer=, a function."
        )
    if discrete:
        raise ValueError(
            f"The log Z of {name!r} depends on the discrete sites {sorted(discrete)}. Exchange "
            "moves continuous ones: give log_normalizer=, a function f(*params, temperature), "
            "with which a discrete site is summed out or sampled as any other."
        )
    weighed = isinstance(site["scale"], Tensor) or site["scale"] != 1 or site["mask"] is not None
    wrapped = False
    while hasattr(fn, "base_dist"):
        wrapped = wrapped or not isinstance(fn, Independent)
        fn = fn.base_dist
    if weighed or wrapped:
        raise ValueError(
            f"The unnormalised site {name!r} has a scale, a mask or a transform. An auxiliary draw "
            "stands in for log Z once, and for all of it: observe the energy without these."
        )
    if get_provenance(tensors_in(fn.support)):
        raise ValueError(
            f"The support of {name!r} depends on a latent site. Exchange needs a fixed one: write "
            "the energy on a support that does not move."
        )
