"""A model inspected before it is sampled: what would make the answer wrong is refused by name.

The model is run once at feasible values, hidden from all handlers and without moving the random
stream, and the sites of that trace are looked at one by one. Only a model that holds unnormalised
sites is run a second time, on values that carry the names of their sites, to learn the parents of
their normalisers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.ops.provenance import get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor
from torch.distributions import biject_to

from pyro_ebm.shapes import unconstrained_shape

from .finite import finite_states
from .guard import captured_across, captured_enumerated
from .like import like_of
from .parents import missing_normalizer
from .tracking import TagLatents, parents_of, plain, sample_sites


def check_model(
    model: Callable, args: tuple, kwargs: Mapping[str, Any], *, sampling: bool = False
) -> frozenset[str]:
    """Refuse a model that MCMC cannot sample rightly; warn of factors counted once per element.

    Args:
        model: a Pyro model.
        args: its positional arguments.
        kwargs: its keyword arguments.
        sampling: whether discrete latent sites can be sampled, and not only summed out.

    Returns:
        With ``sampling`` the discrete latent sites that an energy captures, which cannot be summed
        out.

    Raises:
        ValueError: a subsampled plate; a discrete latent that cannot be enumerated (with
            ``sampling``: that has no finite number of states); a support
            without a bijection; an observation outside the support of an energy; an energy that
            samples inside; an unnormalised site, observed or latent, whose energy, temperature,
            support, scale or mask depends on a latent site while log Z is not known as a function;
            an energy that captures a discrete latent site, or a latent site of its own plate.
    """
    sites = _sites(model, args, kwargs, _Feasible(sampling=sampling))
    for site in sites:
        check_plates(site)
        if not site_is_subsample(site):
            check_discrete(site, sampling=sampling)
            check_support(site)
            check_observation(site)
            warn_of_repeated_factor(site)
    captured = frozenset[str]()
    if any(hasattr(bare(site["fn"]), "captured") for site in sites):
        tagged = _sites(model, args, kwargs, TagLatents(), _Feasible(sampling=sampling))
        for site in tagged:
            check_normalizer(site, order=[other["name"] for other in tagged])
            by_name = {other["name"]: other for other in tagged}
            captured |= check_captured(site, sites=by_name, sampling=sampling)
    return captured


def check_plates(site: Any) -> None:
    """Refuse a plate that holds a subsample of its elements.

    Raises:
        ValueError: the plate of this site, or around it, is subsampled.
    """
    if site_is_subsample(site):
        name, size, used = site["name"], site["fn"].size, len(site["value"])
        if used < size:
            raise ValueError(_subsampled(name, size, used))
    for frame in site["cond_indep_stack"]:
        if frame.full_size is not None and frame.size < frame.full_size:
            raise ValueError(_subsampled(frame.name, frame.full_size, frame.size))


def _subsampled(name: str, size: int, used: int) -> str:
    return (
        f"The plate {name!r} holds a subsample of {used} of its {size} elements. A new subsample "
        "at every step changes the density under the chain, and MCMC then samples another "
        "distribution. Choose one subset, use a full plate over it, and weigh it inside "
        f"poutine.scale(scale={size} / {used})."
    )


def check_discrete(site: Any, *, sampling: bool = False) -> None:
    """Refuse a discrete latent site that cannot be enumerated, nor sampled where that is done.

    Raises:
        ValueError: the site is latent and discrete, and its states are too many or not known.
    """
    if not _is_latent(site) or not site["fn"].support.is_discrete:
        return
    fn = site["fn"]
    if sampling and finite_states(fn) is None:
        raise ValueError(
            f"The discrete latent site {site['name']!r} ({_kind(site)}) has no finite number of "
            "states, so nothing here can sample it: it cannot be enumerated. Bound it (a "
            "Categorical over 0 to a largest value, with logits the log probabilities there), sum "
            "it out by hand (a Poisson rate with a Gamma prior is a GammaPoisson), or condition on "
            "it."
        )
    if not sampling and not fn.has_enumerate_support:
        ways = (
            "MCMC(NUTS(model)) samples it"
            if finite_states(fn) is not None
            else "Bound it, as a Categorical"
        )
        raise ValueError(
            f"The discrete latent site {site['name']!r} ({_kind(site)}) cannot be enumerated, so "
            f"it is not summed out here. {ways}; else sum it out by hand, replace it by a "
            "distribution with finitely many values (Categorical, Bernoulli, Binomial with a fixed "
            "count), or condition on it."
        )


def check_support(site: Any) -> None:
    """Refuse a continuous latent site whose support no unconstrained space maps onto.

    Raises:
        ValueError: the site is latent and has no bijection.
    """
    if not _is_latent(site) or site["fn"].support.is_discrete:
        return
    try:
        biject_to(site["fn"].support)
    except NotImplementedError:
        raise ValueError(_no_bijection(site)) from None


def _no_bijection(site: Any) -> str:
    return (
        f"The support {site['fn'].support} of the latent site {site['name']!r} has no bijection "
        "from an unconstrained space, so gradient-based samplers cannot move on it. Give the site "
        "a support that has one (real, positive, interval, simplex, ordered, correlation "
        "matrices, ...), use a reparametrisation (a direction: ProjectedNormal with "
        "ProjectedNormalReparam), or register a bijection with "
        "torch.distributions.biject_to.register."
    )


def check_observation(site: Any) -> None:
    """Refuse an observation outside the support of an unnormalised site.

    Raises:
        ValueError: the energy is not defined at the observed value.
    """
    masked = any(True for _ in _masks(site))
    if site["is_observed"] and _unnormalised(site) is not None and not masked:
        inside = site["fn"].support.check(site["value"])
        if not bool(inside.all()):
            raise ValueError(
                f"The observed site {site['name']!r} has {int((~inside).sum())} value(s) outside "
                f"its support {site['fn'].support}, where its density is zero. Correct the data, "
                "or give the EnergyDistribution the support that they have."
            )


def warn_of_repeated_factor(site: Any) -> None:
    """Warn of a `pyro.factor` in a plate whose one value counts once for every element."""
    if not site_is_factor(site) or hasattr(site["fn"], "energy_value"):
        return
    log_factor = site["fn"].log_factor
    for frame in site["cond_indep_stack"]:
        if frame.dim is None or -frame.dim > log_factor.dim() or frame.size < 2:
            continue
        if log_factor.stride(frame.dim) == 0:
            warnings.warn(
                f"The factor {site['name']!r} inside the plate {frame.name!r} has one value for "
                f"all its elements, so it counts {frame.size} times. Move it out of the plate to "
                "count it once, or give it one value per element.",
                UserWarning,
                stacklevel=2,
            )


def check_normalizer(site: Any, *, order: list[str]) -> None:
    """Refuse an unnormalised site whose normaliser depends on a latent site.

    Args:
        site: a site of a trace in which latent values carry their names.
        order: the names of all sites, for a message in the model's order.

    Raises:
        ValueError: log Z depends on a latent site and is not known as a function of it; the
            energy calls `pyro.sample`.
    """
    parents = parents_of_missing(site)
    if parents:
        named = [f"the latent site {name!r}" for name in order if name in parents]
        raise ValueError(f"At site {site['name']!r}: {missing_normalizer(named)}")


def parents_of_missing(site: Any) -> frozenset[str]:
    """The latent sites that log Z of an unnormalised site depends on, where it is not known as a
    function of them; none for every other site.

    Args:
        site: a site of a trace in which latent values carry their names.

    Raises:
        ValueError: the energy calls `pyro.sample`.
    """
    fn = _unnormalised(site)
    if fn is None:
        return frozenset()
    value = _value_of(site)
    try:
        parents = parents_of(lambda: fn.normalizer_inputs(value))
    except ValueError as error:
        raise ValueError(f"At site {site['name']!r}: {error}") from error
    parents = (parents | get_provenance(list(_weights(site)))) - {site["name"]}
    return frozenset() if fn.normalizer_is_function else parents


def tagged_sites(model: Callable, args: tuple, kwargs: Mapping[str, Any]) -> list[Any]:
    """The sites of one run of a model, in which latent values carry their names."""
    return _sites(model, args, kwargs, TagLatents(), _Feasible(sampling=True))


def check_captured(
    site: Any, *, sites: Mapping[str, Any], sampling: bool = False
) -> frozenset[str]:
    """Refuse an energy whose closure holds more of a latent site than its own element.

    Args:
        site: a site of a trace in which latent values carry their names.
        sites: all sites of that trace, by name.
        sampling: whether discrete sites can be sampled.

    Returns:
        With ``sampling`` the discrete latent sites that the energy captures.

    Raises:
        ValueError: the energy captures a discrete latent site, or a latent site of its own plate.
    """
    fn = bare(site["fn"])
    if not hasattr(fn, "captured"):
        return frozenset()
    found = frozenset[str]()
    own = {frame.name for frame in site["cond_indep_stack"] if frame.vectorized and frame.size > 1}
    for name, size in sorted(fn.captured(_value_of(site)).items()):
        if name not in sites or name == site["name"]:
            continue
        parent = sites[name]
        if parent["fn"].support.is_discrete:
            if not sampling:
                raise ValueError(f"At site {site['name']!r}: {captured_enumerated(name)}")
            found |= {name}
        # With fewer numbers than the plate has elements it is something that all of them share.
        for frame in parent["cond_indep_stack"]:
            if frame.name in own and size >= frame.size:
                raise ValueError(f"At site {site['name']!r}: {captured_across(name, frame)}")
    return found


def _weights(site: Any) -> Iterator[Tensor]:
    """Scales and masks: they decide how often log Z counts."""
    if isinstance(site["scale"], Tensor):
        yield site["scale"]
    yield from (mask for mask in _masks(site) if isinstance(mask, Tensor))


def _masks(site: Any) -> Iterator[Any]:
    """The masks on a site, by handlers and by its distribution."""
    masks = [site["mask"]]
    fn = site["fn"]
    while hasattr(fn, "base_dist"):
        masks.append(getattr(fn, "_mask", None))
        fn = fn.base_dist
    yield from (mask for mask in masks if mask is not None)


def _unnormalised(site: Any) -> Any:
    """The unnormalised distribution behind a site's masks and reinterpreted dimensions, or None."""
    fn = bare(site["fn"])
    return fn if hasattr(fn, "normalizer_inputs") else None


def bare(fn: Any) -> Any:
    """The distribution behind masks, reinterpreted dimensions and transforms."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def _value_of(site: Any) -> Tensor:
    """The site's value as the unnormalised distribution sees it, without any names."""
    fn, value = site["fn"], plain(site["value"])
    while hasattr(fn, "base_dist"):
        for transform in reversed(getattr(fn, "transforms", [])):
            value = plain(transform.inv(value))
        fn = fn.base_dist
    return value


class _Feasible(Messenger):
    """Give every latent site a value near the origin of its unconstrained space."""

    def __init__(self, *, sampling: bool) -> None:
        super().__init__()
        self.sampling = sampling

    def _pyro_sample(self, msg: Any) -> None:
        if msg["done"] or msg["value"] is not None or not _is_latent(msg):
            return
        check_discrete(msg, sampling=self.sampling)
        check_support(msg)
        fn = msg["fn"]
        if fn.support.is_discrete:
            states = finite_states(fn)
            assert states is not None
            value = states.first
        else:
            transform = biject_to(fn.support)
            shape = unconstrained_shape(transform, fn.shape())
            value = transform(_nowhere_special(shape, like_of(fn)))
        msg["value"] = value
        msg["done"] = True


def _nowhere_special(shape: Sequence[int], like: Tensor) -> Tensor:
    """Unequal numbers near zero: at the origin a scale is exactly 1, where more may be known."""
    numbers = 0.3 + 0.1 * torch.arange(prod(shape), device=like.device).cos()
    return numbers.reshape(tuple(shape)).to(like.dtype)


def _is_latent(site: Any) -> bool:
    """Whether inference chooses the site's value: not observed, not determined by others."""
    fn = bare(site["fn"])
    return not site["is_observed"] and type(fn).__name__ not in ("Delta", "_Subsample")


def _kind(site: Any) -> str:
    return type(bare(site["fn"])).__name__


def _sites(
    model: Callable, args: tuple, kwargs: Mapping[str, Any], *messengers: Messenger
) -> list[Any]:
    """The sample sites of one run, hidden from all handlers, random streams left as they were."""
    devices = list(range(torch.cuda.device_count()))
    run = model
    for messenger in reversed(messengers):
        run = messenger(run)
    with (
        torch.random.fork_rng(devices),
        torch.no_grad(),
        pyro.validation_enabled(False),
        poutine.block(),
    ):
        return sample_sites(poutine.trace(run).get_trace(*args, **kwargs))
