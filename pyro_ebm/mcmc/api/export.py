"""A run as ArviZ data: every group that ArviZ knows, and the energies beside them.

Positions go through the model once more, all together, and come back as sites, log likelihoods,
log priors and energies. Discrete sites that were summed out are drawn back from their exact
distribution first; deterministic sites, log priors and energies are those at these draws.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pyro
import torch
from torch import Tensor

from pyro_ebm.inference_data import to_inference_data
from pyro_ebm.target.program import ModelProgram

from .evaluated import Evaluated, evaluated, unconstrained
from .fingerprint import fingerprint
from .inputs import as_array, constant_data
from .labels import Labels, event_dim_in_plates
from .model_graph import model_graph
from .predictive import forward_draws, latent_draws, model_of
from .predictive import predict as predict
from .record import RunRecord as RunRecord
from .sites import Facts, site_facts
from .stored_group import DISCRETE_STATISTICS, TYPES

# A pointwise log likelihood of more numbers (2 GiB in float32) is left out.
LARGEST_LOG_LIKELIHOOD = 2**29

Groups = dict[str, dict[str, np.ndarray]]


class Parts(NamedTuple):
    """What :func:`pyro_ebm.inference_data.to_inference_data` takes."""

    groups: Groups
    dims: dict[str, tuple[str, ...]]
    coords: dict[str, Any]
    attrs: dict[str, Any]


def to_arviz(record: RunRecord, **options: Any) -> Any:
    """The run as InferenceData, or DataTree from ArviZ 1.

    :param options: those of :func:`build_groups`.
    """
    parts = build_groups(record, **options)
    return to_inference_data(parts.groups, dims=parts.dims, coords=parts.coords, attrs=parts.attrs)


def build_groups(
    record: RunRecord,
    *,
    log_likelihood: bool = True,
    log_prior: bool = True,
    prior: int = 0,
    posterior_predictive: bool = False,
    save_warmup: bool = False,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Parts:
    """The groups of a run as plain arrays, with names for their axes.

    :param log_likelihood: pointwise log likelihoods of normalised observed sites, scaled and masked
        as they entered the posterior. Attributes name the sites that have none. Points that a fixed
        mask takes out are no data and are left out: the axis ``<site>_point`` numbers the others.
        Where the mask depends on other sites they are zero.
    :param log_prior: log densities of the latent sites, as they entered the posterior.
    :param prior: so many draws from the prior, with what they predict.
    :param posterior_predictive: a draw of every observed site for every posterior draw.
    :param save_warmup: draws and statistics of the warm-up, where they were kept.
    :param dims: names of axes by site, in place of plates and numbers: of all axes, or of those
        that no plate names.
    :param coords: labels by axis.
    :raises ValueError: names or labels that do not fit; a prior that cannot be drawn from; a
        warm-up or sites that were not kept.
    """
    facts = site_facts(record.target.described)
    pointwise = log_likelihood and record.keeps_all and not _is_too_large(record, facts)
    groups: Groups = {}
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        # A stream of its own: two exports of a run are the same, and none is the sampler's.
        torch.manual_seed((int(record.attrs.get("seed", 0)) + 1) % 2**63)
        kept = evaluated(
            record, record.positions, facts, log_likelihood=pointwise, known=record.stored
        )
        groups["posterior"] = kept.posterior
        groups["unconstrained_posterior"] = unconstrained(record, record.positions)
        groups["sample_stats"] = _statistics(record, record.statistics)
        groups["log_likelihood"] = kept.log_likelihood
        if log_prior:
            groups["log_prior"] = kept.log_prior
        groups["energies"] = kept.energies
        if save_warmup:
            groups |= _warmup(record, facts)
        if prior > 0:
            groups |= _prior(record, facts, prior)
        if posterior_predictive:
            groups["posterior_predictive"] = _predicted(record, facts)
    groups |= _data(record, facts)
    labels, special = _labels(record, facts, groups, dims or {})
    points = _points(facts, groups["log_likelihood"])
    special |= {f"log_likelihood/{name}": (f"{name}_point",) for name in points}
    plates = {name: np.arange(size) for name, size in labels.plates.items()}
    known = fingerprint(record.target)
    attributes = {
        "inference_library": "pyro_ebm",
        **_versions(),
        **record.attrs,
        "complete": record.complete,
        "thinning": record.thinning,
        **_attributes(facts, kept, log_likelihood=log_likelihood),
        "model_graph": model_graph(record.target.described, facts),
        "sampled_sites": [*record.target.sampled],
        **({} if known is None else {"distribution": known}),
    }
    return Parts(
        {name: group for name, group in groups.items() if group},
        {**labels.axes, **special},
        {
            **plates,
            **{f"{name}_point": numbers for name, numbers in points.items()},
            **(coords or {}),
        },
        attributes,
    )


def _statistics(record: RunRecord, statistics: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    told = record.target.continuous_dim > 0
    found = {
        name: as_array(value.to(TYPES.get(name, value.dtype)))
        for name, value in statistics.items()
        if told or name in DISCRETE_STATISTICS
    }
    if record.superchain_ids is not None and found:
        shape = next(iter(found.values())).shape
        ids = as_array(record.superchain_ids)[:, None]
        found["superchain"] = np.broadcast_to(ids, shape).astype(np.int32)
    return found


def _warmup(record: RunRecord, facts: Mapping[str, Facts]) -> Groups:
    if record.warmup_positions is None or record.warmup_statistics is None:
        raise ValueError(
            "The draws of the warm-up were not kept. Run with MCMC(..., save_warmup=True)."
        )
    kept = evaluated(
        record,
        record.warmup_positions,
        facts,
        log_likelihood=False,
        known=record.warmup_stored,
    )
    return {
        "warmup_posterior": kept.posterior,
        "warmup_unconstrained_posterior": unconstrained(record, record.warmup_positions),
        "warmup_sample_stats": _statistics(record, record.warmup_statistics),
    }


def _prior(record: RunRecord, facts: Mapping[str, Facts], num_draws: int) -> Groups:
    program = model_of(record)
    ignored = [
        name
        for name, fact in facts.items()
        if fact.kind == "factor" or (fact.kind == "latent" and not fact.normalised)
    ]
    if ignored:
        warnings.warn(
            f"The draws from the prior are the model's run forwards: the factors among {ignored} "
            "do not weigh them, and unnormalised sites are drawn as their sample() does.",
            stacklevel=4,
        )
    try:
        draws = forward_draws(
            program.user_model, program.args, program.kwargs, given={}, num_draws=num_draws
        )
    except NotImplementedError as error:
        raise ValueError(
            f"The prior cannot be drawn from, as a site has no sampler (an improper prior?): "
            f"{error}. Leave out prior=."
        ) from error
    groups: Groups = {"prior": {}, "prior_predictive": {}}
    for name, value in draws.items():
        observed = facts[name].kind == "observed"
        groups["prior_predictive" if observed else "prior"][name] = as_array(value)
    return groups


def _predicted(record: RunRecord, facts: Mapping[str, Facts]) -> dict[str, np.ndarray]:
    program = model_of(record)
    draws = forward_draws(
        program.user_model, program.args, program.kwargs, given=latent_draws(record)
    )
    return {
        name: as_array(value) for name, value in draws.items() if facts[name].kind == "observed"
    }


def _data(record: RunRecord, facts: Mapping[str, Facts]) -> Groups:
    program = record.target.described
    if not isinstance(program, ModelProgram):
        return {}
    observed = {name: fact.value for name, fact in facts.items() if fact.value is not None}
    nodes = cast(Mapping[str, Any], program.first_trace.nodes)
    given = {name: nodes[name]["value"] for name in observed}
    return {
        "observed_data": {name: as_array(value) for name, value in observed.items()},
        "constant_data": constant_data(
            program.user_model, program.args, program.kwargs, observed=given
        ),
    }


def _labels(
    record: RunRecord,
    facts: Mapping[str, Facts],
    groups: Groups,
    dims: Mapping[str, Sequence[str]],
) -> tuple[Labels, dict[str, tuple[str, ...]]]:
    """The names of the axes of every site, and of the variables that differ in one group."""
    labels = Labels()
    for name, fact in facts.items():
        shape, event_dim = fact.shape, len(fact.event)
        if fact.kind == "deterministic":
            if name not in groups["posterior"]:
                continue
            shape = groups["posterior"][name].shape[2:]
            event_dim = event_dim_in_plates(shape, min(event_dim, len(shape)), fact.plates)
        elif fact.kind == "factor":
            shape, event_dim = fact.batch, 0
        labels.add(name, shape, event_dim=event_dim, plates=fact.plates)
    special: dict[str, tuple[str, ...]] = {}
    for name, array in groups.get("constant_data", {}).items():
        if name in facts:
            special[f"constant_data/{name}"] = ()
        else:
            labels.add(name, array.shape, event_dim=array.ndim, plates=())
    labels.override(dims)
    for site in record.target.sites:
        if site.states is None and site.unconstrained_shape != site.shape:
            batch = len(site.shape) - site.event_dim
            free = range(batch, len(site.unconstrained_shape))
            axes = labels.axes[site.name][:batch]
            own = tuple(f"{site.name}_unconstrained_dim_{i}" for i in free)
            for group in ("unconstrained_posterior", "warmup_unconstrained_posterior"):
                special[f"{group}/{site.name}"] = (*axes, *own)
    return labels, special


def _points(
    facts: Mapping[str, Facts], log_likelihood: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The numbers of the points that a fixed mask leaves, by site."""
    masks = {name: facts[name].counted for name in log_likelihood}
    return {
        name: np.flatnonzero(as_array(mask)) for name, mask in masks.items() if mask is not None
    }


def _attributes(
    facts: Mapping[str, Facts], kept: Evaluated, *, log_likelihood: bool
) -> dict[str, Any]:
    """What a reader has to know of the sites; lists that are empty are left out."""
    observed = [name for name, fact in facts.items() if fact.kind == "observed"]
    lists = {
        "unnormalised_sites": [name for name, fact in facts.items() if not fact.normalised],
        "marginalised_sites": [name for name, fact in facts.items() if fact.kind == "discrete"],
        "scaled_sites": [name for name, fact in facts.items() if fact.scaled],
        "masked_sites": [
            name for name, fact in facts.items() if fact.masked and fact.kind != "deterministic"
        ],
        "without_log_likelihood": [
            name for name in observed if log_likelihood and name not in kept.log_likelihood
        ],
    }
    return {name: names for name, names in lists.items() if names}


def _is_too_large(record: RunRecord, facts: Mapping[str, Facts]) -> bool:
    observations = sum(fact.batch.numel() for fact in facts.values() if fact.kind == "observed")
    numbers = record.num_chains * record.num_draws * observations
    if numbers > LARGEST_LOG_LIKELIHOOD:
        warnings.warn(
            f"The pointwise log likelihood would hold {numbers:.3g} numbers and is left out. Use "
            "thinning= or fewer chains, or log_likelihood=False when it is not needed.",
            stacklevel=4,
        )
        return True
    return False


def _versions() -> dict[str, str]:
    versions = {"torch_version": str(torch.__version__), "pyro_version": pyro.__version__}
    try:
        versions["inference_library_version"] = importlib.metadata.version("pyro_ebm")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        versions["inference_library_version"] = "unknown"
    return versions
