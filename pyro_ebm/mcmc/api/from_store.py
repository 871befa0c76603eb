"""A run on disk, or an estimate of log Z, as ArviZ data, without its model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from pyro_ebm.inference_data import DATA_GROUPS, to_inference_data

from .. import checkpoint
from .export import Groups
from .folder import ESTIMATE, ESTIMATE_FORMAT, ESTIMATE_GROUP
from .joined import Joined
from .merging import merged_attributes, merged_superchains
from .shard import attributes_of
from .shard_folder import ended_shards, folder_of_shard, is_sharded, read_run
from .sharded import attributes_of_whole
from .store import Contents, read_contents
from .stored_group import DISCRETE_STATISTICS, StoredGroup


def from_store(path: str | PathLike[str]) -> Any:
    """The run in a folder that ``MCMC(..., store=path)`` writes, as far as it has come; or the
    estimate of log Z in one that ``AIS(..., store=path)`` and its kin write.

    It may be finished, interrupted or still going on; what counts are the draws that every chain
    had at the last checkpoint. They are mapped from the disk: what is not looked at is not read.
    Where the model could not be evaluated any more, the last draws are there as unconstrained
    coordinates only; a warning tells how many.
    Of a run in shards, those count that have ended; they are copied into arrays of all, which go
    beside them where they are large.
    Log likelihoods and energies need the model: ``MCMC.resume(path, kernel)`` and ``to_arviz()``.

    Of an estimate it gives what ``LogZ.to_arviz()`` gives, but for log likelihoods and log priors.
    Where its run has not come to the end, the attribute ``complete`` is 0, and it is what there was
    by then, as ``why`` says: what a round that still adapts has made of log Z, or an estimate that
    nothing has checked.

    :returns: InferenceData, or DataTree from ArviZ 1.
    :raises FileNotFoundError: there is no run.
    :raises ValueError: a file is cut off or damaged.
    """
    folder = Path(path)
    if (folder / ESTIMATE).exists():
        return _estimate(folder)
    if is_sharded(folder):
        return _shards(folder)
    contents = read_contents(folder)
    groups = _groups(folder, contents, contents.num_draws)
    return _labelled(groups, contents, attributes_of(contents))


def _shards(folder: Path) -> Any:
    """The shards of a run that have ended, their chains one after another."""
    run = read_run(folder)
    rows, ended = ended_shards(folder, run)
    if not ended:
        raise ValueError(
            f"{folder} holds a run in {run.num_shards} shards, of which none has ended yet."
        )
    # Copies of large arrays stand beside what they are copies of.
    writable = folder if os.access(folder, os.W_OK) else None
    joined = Joined(run.chains_of_shard * len(ended), writable)
    data: Groups = {}
    ids: dict[str, list[np.ndarray]] = {}
    attributes = []
    for index in ended:
        shard = folder_of_shard(folder, index)
        contents = read_contents(shard)
        attributes.append(attributes_of(contents))
        for name, group in _groups(shard, contents, rows).items():
            if name in DATA_GROUPS:
                data[name] = group
                continue
            if "superchain" in group:
                ids.setdefault(name, []).append(group.pop("superchain")[:, 0])
            joined.add(name, group)
    groups = joined.groups()
    for name, parts in ids.items():
        groups[name]["superchain"] = _over_draws(merged_superchains(parts), groups[name])
    complete = len(ended) == run.num_shards and rows == run.options["num_samples"]
    about = attributes_of_whole(run, ended, complete=complete)
    first = read_contents(folder_of_shard(folder, ended[0]))
    return _labelled(groups | data, first, merged_attributes(attributes, about))


def _over_draws(ids: np.ndarray | None, group: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is said of chains, once for each draw of a group."""
    assert ids is not None
    shape = next(iter(group.values())).shape[:2]
    return np.broadcast_to(ids[:, None], shape).astype(np.int32)


def _groups(folder: Path, contents: Contents, rows: int) -> Groups:
    """All that there is of a run, of so many draws."""
    about = contents.run.about
    groups = _sampled(folder, contents, "", rows)
    if about["save_warmup"]:
        kept = int(contents.checkpoint.arrays["warmup_kept"].min())
        groups |= _sampled(folder, contents, "warmup_", min(kept, about["warmup_steps"]))
    for name, value in contents.run.arrays.items():
        group, _, variable = name.partition("/")
        if group in DATA_GROUPS:
            groups.setdefault(group, {})[variable] = value
    return groups


def _labelled(groups: Groups, contents: Contents, attributes: Mapping[str, Any]) -> Any:
    about = contents.run.about
    return to_inference_data(
        groups,
        dims={name: tuple(axes) for name, axes in about["dims"].items()},
        coords={name: np.asarray(labels) for name, labels in about["coords"].items()},
        attrs=attributes,
    )


def _estimate(folder: Path) -> Any:
    """What there is to read of an estimate of log Z."""
    arrays, about = checkpoint.read(folder / ESTIMATE)
    if about["format"] != ESTIMATE_FORMAT:
        raise ValueError(
            f"{folder} was written by another version of pyro_ebm, in format {about['format']}; "
            f"this one reads format {ESTIMATE_FORMAT}."
        )
    groups: Groups = {}
    for name, value in arrays.items():
        group, slash, variable = name.partition("/")
        if slash:
            groups.setdefault(group, {})[variable] = value
    return to_inference_data(
        groups,
        dims={name: tuple(axes) for name, axes in about["dims"].items()},
        coords={name: np.asarray(labels) for name, labels in about["coords"].items()},
        attrs=about["attrs"],
        plain_groups=(ESTIMATE_GROUP,),
    )


def _sampled(folder: Path, contents: Contents, prefix: str, rows: int) -> Groups:
    """The groups of one stage."""
    group = StoredGroup(folder, contents.layout, prefix=prefix)
    positions = group.positions(rows).permute(2, 0, 1).numpy()
    statistics = {name: value.T.numpy() for name, value in group.statistics(rows).items()}
    ids = contents.run.arrays.get("superchains")
    if ids is not None:
        statistics["superchain"] = _over_draws(ids, statistics)
    stored = contents.run.arrays.get("coordinates")
    if stored is None:
        stored = np.arange(positions.shape[2])
    ready = min(rows, int(contents.derived(prefix).min()))
    if ready < rows:
        warnings.warn(
            f"{folder}: of {rows} draws of every chain {ready} have values of sites, as the run "
            f"ended before the model was evaluated there. All are in "
            f"{prefix}unconstrained_posterior and "
            f"{prefix}sample_stats; MCMC.resume(path, kernel).run() fills in the sites.",
            stacklevel=3,
        )
    unconstrained = {}
    # The states of a discrete energy are not stored under a second name.
    if contents.run.about.get("discrete"):
        told = (*DISCRETE_STATISTICS, "superchain")
        statistics = {name: value for name, value in statistics.items() if name in told}
    for name, (offset, shape) in contents.run.about["unconstrained"].items():
        first = int(np.searchsorted(stored, offset))
        part = positions[..., first : first + int(np.prod(shape))]
        unconstrained[name] = part.reshape(*part.shape[:2], *shape)
    found = {
        f"{prefix}posterior": group.sites(ready),
        f"{prefix}unconstrained_posterior": unconstrained,
        f"{prefix}sample_stats": statistics,
    }
    return {name: values for name, values in found.items() if values}
