"""How a run on disk begins, how it ends, and how it is taken up again."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.target import Target

from ..checkpoint import Saved
from ..run import Result
from .export import Parts, build_groups
from .folder import alone, claim, probes
from .identity import Identity
from .record import RunRecord
from .starts import Starts
from .store import (
    RESUME,
    Contents,
    RunStore,
    StoreOptions,
    about_run,
    create,
    read_contents,
)
from .stored_group import Layout, SiteLayout, StoredGroup


class Options(NamedTuple):
    """The arguments of MCMC that a run keeps from its beginning to its end."""

    num_chains: int
    warmup_steps: int
    thinning: int
    sites: tuple[str, ...] | None
    save_warmup: bool
    checkpoint_seconds: float
    chain_batch_size: int | None = None


def new_contents(
    target: Target,
    starts: Starts,
    options: Options,
    *,
    num_samples: int,
    identity: Identity,
    attributes: Mapping[str, Any],
) -> Contents:
    """What the folder of a new run says of it: all that a reader without the model needs."""
    coordinates = None if options.sites is None else target.coordinates_of(options.sites)
    parts = _example(target, starts.positions[:, 0], coordinates, options.sites)
    kept = starts.positions[:, :1] if coordinates is None else starts.positions[coordinates, :1]
    values = target.constrain(target.complete(kept.T, coordinates))
    posterior = parts.groups["posterior"]
    layout = Layout(
        chains=starts.positions.shape[1],
        coordinates=len(kept),
        dtype=str(target.dtype).removeprefix("torch."),
        sites={
            name: _site_layout(name, posterior[name], parts.dims)
            for name in values
            if name in posterior
        },
        rows=num_samples,
        warmup_rows=options.warmup_steps,
    )
    unconstrained = {
        site.name: [site.offset, list(site.unconstrained_shape)]
        for site in target.sites
        if target.num_states is None
        and site.states is None
        and (options.sites is None or site.name in options.sites)
    }
    arrays = probes(target, starts.positions, layout.sites)
    for group in ("observed_data", "constant_data"):
        arrays |= {f"{group}/{n}": value for n, value in parts.groups.get(group, {}).items()}
    if starts.superchains is not None:
        arrays["superchains"] = starts.superchains.numpy()
    if coordinates is not None:
        arrays["coordinates"] = coordinates.cpu().numpy()
    about = about_run(
        identity=identity,
        layout=layout,
        options=options._asdict(),
        warmup_steps=options.warmup_steps,
        save_warmup=options.save_warmup,
        unconstrained=unconstrained,
        discrete=target.continuous_dim == 0,
        dims={name: list(axes) for name, axes in parts.dims.items()},
        coords={name: np.asarray(labels).tolist() for name, labels in parts.coords.items()},
        attrs={**parts.attrs, **attributes},
    )
    return Contents(Saved(arrays, about), Saved({}, {}))


@contextlib.contextmanager
def opened(
    path: Path, contents: Contents, target: Target, options: StoreOptions
) -> Iterator[RunStore]:
    """The folder of a run to write to; a new one is made, and is gone if no step was made in it.

    That of an earlier run is held by :func:`taken_up` already.

    :raises FileExistsError: a new run is to go where something is.
    :raises RuntimeError: another process is writing to it.
    """
    new = not contents.checkpoint.arrays
    if new:
        claim(path, RESUME)
    with alone(path) if new else contextlib.nullcontext():
        store = None
        try:
            if new:
                create(path, contents.run)
            store = RunStore(path, contents, target, options)
            yield store
        finally:
            if new and (store is None or not store.begun):
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def taken_up(path: Path) -> Iterator[Contents]:
    """What the folder of an earlier run says now, and goes on saying, as no other writes to it.

    :raises RuntimeError: another process is writing to it.
    """
    with alone(path):
        yield read_contents(path)


def closed(result: Result, store: RunStore) -> Result:
    """The result when everything that could be written has been."""
    if not store.begun:
        return result
    try:
        store.close(finished=result.error is None)
    except Exception as error:
        if result.error is None:
            result = result._replace(error=error)
    if result.error is not None:
        ready, drawn = int(store.group.derived.min()), result.draws.complete
        but = (
            f" (of {drawn} draws of every chain the last {drawn - ready} are there in "
            "unconstrained coordinates only, as their sites could not be evaluated)"
            if ready < drawn
            else ""
        )
        result.error.add_note(
            f"What was drawn is in {store.path}{but}: from_store() reads it, and {RESUME} goes on "
            "with the run."
            if drawn
            else f"The run is in {store.path}: {RESUME} goes on with it."
        )
    return result


def make_record(target: Target, result: Result, store: RunStore | None, **fields: Any) -> RunRecord:
    """The record of a run.

    :param fields: those of the record that are not draws.
    """
    draws, before = result.draws, result.warmup_draws
    record = RunRecord(
        target,
        draws.positions.permute(2, 0, 1).to(target.device),
        {name: value.T for name, value in draws.statistics.items()},
        **fields,
    )
    if before is not None:
        record = record._replace(
            warmup_positions=before.positions.permute(2, 0, 1).to(target.device),
            warmup_statistics={name: value.T for name, value in before.statistics.items()},
        )
    if store is None or not store.begun:
        return record
    stored = _stored_sites(store.group, draws.complete)
    record = record._replace(folder=store.path, stored=stored)
    if store.warmup_group is None or before is None:
        return record
    return record._replace(warmup_stored=_stored_sites(store.warmup_group, before.complete))


def _stored_sites(group: StoredGroup, rows: int) -> dict[str, np.ndarray]:
    """The sites of a stage where all are there; else they have to be evaluated."""
    return group.sites(rows) if rows <= int(group.derived.min()) else {}


def _example(
    target: Target, position: Tensor, coordinates: Tensor | None, sites: Sequence[str] | None
) -> Parts:
    """How one draw would look in ArviZ."""
    stored = position if coordinates is None else position[coordinates]
    record = RunRecord(
        target,
        stored[None, None],
        {},
        coordinates=coordinates,
        sites=None if sites is None else tuple(sites),
    )
    return build_groups(record, log_likelihood=False, log_prior=False)


def _site_layout(name: str, value: np.ndarray, dims: Mapping[str, Sequence[str]]) -> SiteLayout:
    shape = list(value.shape[2:])
    axes = [*dims.get(name, ())][: len(shape)]
    axes += [f"{name}_dim_{i}" for i in range(len(axes), len(shape))]
    return SiteLayout(shape, value.dtype.name, axes)


def options_of(path: Path, contents: Contents, num_samples: int | None) -> tuple[Options, int]:
    """The options of a stored run, and the number of draws that are asked for now.

    :raises ValueError: fewer draws than it has.
    """
    plain = dict(contents.run.about["options"])
    plain["sites"] = None if plain["sites"] is None else tuple(plain["sites"])
    wanted = contents.checkpoint.about["num_samples"] if num_samples is None else num_samples
    if wanted < contents.num_draws:
        raise ValueError(
            f"num_samples must be at least the {contents.num_draws} draws that every chain has in "
            f"{path}, got {wanted}."
        )
    return Options(**plain), wanted


def example_of(contents: Contents) -> dict[str, Tensor]:
    """Unconstrained values of the shapes that a run had, for a potential_fn that takes them."""
    numbers = contents.run.about["identity"]["numbers"]
    dtype = getattr(torch, numbers["dtype"].removeprefix("torch."))
    return {
        name: torch.zeros(unconstrained, dtype=dtype, device=numbers["device"])
        for name, (_, unconstrained, _) in contents.run.about["identity"]["site"].items()
    }


def starts_of(contents: Contents, target: Target) -> Starts:
    """Where a run stands, in place of where it began.

    :raises ValueError: the checkpoint is damaged.
    """
    found = contents.checkpoint.arrays["state.position"].shape
    if found != (target.dim, contents.layout.chains):
        raise ValueError(
            f"The checkpoint is damaged: expected state.position of shape "
            f"{(target.dim, contents.layout.chains)}, got {found}."
        )
    position = torch.from_numpy(contents.checkpoint.arrays["state.position"]).to(target.device)
    return Starts(position, contents.array("superchains"))
