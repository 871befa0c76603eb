"""Draws from a model's joint distribution of latent sites and data, and what forbids them.

A model is simulated by running it with every observation taken away. That is its joint distribution
only when each factor of its density is the distribution of one site: a factor, a weight or a mask
on a latent site changes the density and not the simulation, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.distributions import ImproperUniform
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor
from torch.distributions import Transform

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.target import Site
from pyro_ebm.target.determined import delta_of
from pyro_ebm.target.layout import bijection


class Simulations(NamedTuple):
    """Joint draws: per site [simulation, *site shape], and by run the nodes of its trace."""

    latents: dict[str, Tensor]
    data: dict[str, Tensor]
    runs: list[dict[str, Any]]

    def unconstrained(self, sites: Iterable[Site], transforms: Mapping[str, Transform]) -> Tensor:
        """Flat positions [simulation, dim] of the latent sites, laid out as a target has them.

        :raises ValueError: a draw lies so near the boundary of its support that it has none.
        """
        rows = []
        for nodes in self.runs:
            parts = []
            for site in sites:
                node = nodes[site.name]
                if site.name in transforms:
                    to_unconstrained = transforms[site.name]
                else:
                    to_unconstrained = bijection(node["fn"].support, site.name).inv
                unconstrained: Any = to_unconstrained(node["value"])
                parts.append(unconstrained.reshape(-1))
                if not bool(parts[-1].isfinite().all()):
                    raise ValueError(
                        f"The prior of site '{site.name}' put a draw on the boundary of its "
                        f"support in {node['value'].dtype}. Use "
                        "torch.set_default_dtype(torch.float64), or a prior with less mass there."
                    )
            rows.append(torch.cat(parts))
        return torch.stack(rows)


def simulate(
    model: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    observed: Iterable[str],
    num_simulations: int,
) -> Simulations:
    """Run a model without its data, so many times, on torch's global random stream.

    :param observed: data sites that the model, as it is called, does not observe.
    :raises ValueError: a model without data, or one whose density is not what it simulates.
    """
    named = tuple(observed)
    generative = _Generative()(model)
    runs: list[dict[str, Any]] = []
    with torch.no_grad(), poutine.block():
        for _ in range(num_simulations):
            runs.append(dict(poutine.trace(generative).get_trace(*args, **kwargs).nodes))
            _check_same_sites(runs[0], runs[-1])
    sites = [name for name, node in runs[0].items() if _is_random(node)]
    unknown = sorted(set(named) - set(sites))
    if unknown:
        raise ValueError(f"observed= names {unknown}; the sites of this model are {sites}.")
    data = [name for name in sites if name in named or _was_observed(runs[0][name])]
    if not data:
        raise ValueError(
            f"The model observes none of its sites {sites}, so there is no posterior to calibrate. "
            "Call it with data, of which only the shapes matter, or name its data sites with "
            "observed=."
        )
    latents = [name for name in sites if name not in data]
    if not latents:
        raise ValueError("All sites of the model are observed, so there is nothing to infer.")
    values = {name: torch.stack([nodes[name]["value"] for nodes in runs]) for name in sites}
    for name, value in values.items():
        _check_finite(name, value)
    return Simulations(
        {name: values[name] for name in latents}, {name: values[name] for name in data}, runs
    )


class _Generative(Messenger):
    """Take the data away, and refuse sites that are drawn from another density than they have."""

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name, fn = msg["name"], msg["fn"]
        if delta_of(fn) is not None:
            # A reparametrised site is an observed Delta, and no data: other sites determine it.
            return
        if site_is_factor(msg):
            raise ValueError(
                f"The factor '{name}' is part of the density, but nothing is drawn from it, so the "
                "joint distribution cannot be simulated. Leave it out, or write it as the "
                "distribution of a site."
            )
        scale = torch.as_tensor(msg["scale"], dtype=torch.float64)
        if not bool((scale == 1).all()):
            raise ValueError(
                f"Site '{name}' is weighted by poutine.scale, and a weighted density is not the "
                "distribution that the site is drawn from. Calibrate the model without the weight."
            )
        masks = [mask for mask in _masks(msg) if mask is not None]
        if not msg["is_observed"] and not all(bool(torch.as_tensor(mask).all()) for mask in masks):
            raise ValueError(
                f"The latent site '{name}' is masked: where the mask is False it has no prior "
                "to be drawn from. Take the mask away, or leave those elements out of the site."
            )
        self._check_sampler(name, _base(fn))
        if msg["is_observed"]:
            msg.update(is_observed=False, value=None, done=False)
            msg["infer"] = {**msg["infer"], "was_observed": True}

    def _check_sampler(self, name: str, fn: Any) -> None:
        if isinstance(fn, ImproperUniform):
            raise ValueError(
                f"Site '{name}' has an improper prior, which nothing can be drawn from. Give it a "
                "proper one, as wide as is sensible."
            )
        if isinstance(fn, EnergyDistribution):
            exact = None
            if not fn.params:
                generator = torch.Generator(fn.like.device).manual_seed(0)
                exact = fn.energy.exact_sample(
                    torch.Size(), temperature=fn.temperature, generator=generator
                )
            if exact is None:
                raise ValueError(
                    f"Site '{name}' is an energy without an exact sampler: its draws would be "
                    "approximate, and calibration would judge them and not the posterior. Use an "
                    "energy with exact_sample, or a distribution, in its place."
                )


def _base(fn: Any) -> Any:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def _masks(msg: Any) -> list[Any]:
    masks, fn = [msg["mask"]], msg["fn"]
    while hasattr(fn, "base_dist"):
        masks.append(getattr(fn, "_mask", None))
        fn = fn.base_dist
    return masks


def _is_random(node: Any) -> bool:
    return (
        node["type"] == "sample"
        and not site_is_subsample(node)
        and not node["infer"].get("_deterministic")
    )


def _was_observed(node: Any) -> bool:
    return bool(node["infer"].get("was_observed", False))


def _check_same_sites(first: dict[str, Any], other: dict[str, Any]) -> None:
    def shapes(nodes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        return {n: tuple(v["value"].shape) for n, v in nodes.items() if _is_random(v)}

    before, now = shapes(first), shapes(other)
    if before != now:
        changed = sorted(n for n in {*before, *now} if before.get(n) != now.get(n))
        raise ValueError(
            f"Two runs of the model differ in the sites {changed}: "
            f"{ {n: before.get(n) for n in changed} } and { {n: now.get(n) for n in changed} }. "
            "Sites and their shapes must not depend on values; write the model with fixed ones."
        )


def _check_finite(name: str, value: Tensor) -> None:
    bad = ~value.isfinite().reshape(value.shape[0], -1).all(1)
    if bool(bad.any()):
        raise ValueError(
            f"{int(bad.sum())} of {len(bad)} simulations have values at site '{name}' that are not "
            "finite: the prior reaches where numbers end. Narrow the prior, or use "
            "torch.set_default_dtype(torch.float64)."
        )


def fitted(model: Callable, data: Mapping[str, Tensor]) -> Callable:
    """The model with one simulated data set in place of what it observes."""
    first = {name: value[0] for name, value in data.items()}
    return poutine.condition(model, data=first)
