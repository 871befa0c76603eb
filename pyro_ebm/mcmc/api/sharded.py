"""A run in shards: the chains in parts of one size, each an ordinary run with a seed of its own.

A shard warms up by itself, so that nothing is exchanged on the way, and what it draws depends on
the run's seed and on its number alone: not on how many workers there are, nor on which has made it.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ebm.shards import Surroundings, run_all, seed_of
from pyro_ebm.target import Target

from .arguments import check_whole
from .folder import alone, check_free, check_same, claim, probes, somewhere, warn_if_elsewhere
from .gears import name_of_gear
from .identity import Identity
from .inputs import as_array
from .merging import merged_attributes, merged_record
from .record import RunRecord
from .shard import Shard, ShardDraws, run_shard
from .shard_folder import (
    ShardedRun,
    draws_of_shard,
    ended_shards,
    folder_of_shard,
    new_run,
    read_run,
    read_shards,
    write_run,
)
from .starts import given_starts
from .store import RESUME

# Chains of a shard.
_USUAL_SIZE = 256


class Whole(NamedTuple):
    """A run as a whole: its model, frozen here, and what every shard is told.

    ``options`` are those of the run (:class:`.ShardedRun`), ``others`` arguments of MCMC that no
    folder keeps.
    """

    mcmc: Any
    kernel: Any
    target: Target
    args: tuple
    kwargs: Mapping[str, Any]
    options: Mapping[str, Any]
    others: Mapping[str, Any]
    initial_params: Mapping[str, Tensor] | None
    identity: Identity


class Place(NamedTuple):
    """Where a run is made, and kept: ``run`` is what an earlier one has left in the folder."""

    executor: Executor
    folder: Path | None
    run: ShardedRun | None
    disable_progbar: bool


def shard_size_of(shard_size: int | None, executor: Executor | None) -> int:
    """The chains of a shard.

    :raises ValueError: it is given where there are no shards.
    """
    if shard_size is None:
        return _USUAL_SIZE
    check_whole("shard_size", shard_size, 1)
    if executor is None:
        raise ValueError(
            f"shard_size={shard_size} needs an executor= that makes the shards: give "
            "SerialExecutor() to make them here, one after another, or WorkerProcesses(n). To "
            "bound the memory of chains in one piece give chain_batch_size= instead."
        )
    return shard_size


def check_shards(num_chains: int, shard_size: int) -> None:
    """Refuse a last shard that is smaller than the others: it would warm up less well.

    :raises ValueError: such a number of chains.
    """
    if num_chains > shard_size and num_chains % shard_size:
        few = num_chains // shard_size * shard_size
        raise ValueError(
            f"num_chains must be a multiple of shard_size={shard_size} with executor=, got "
            f"{num_chains}: take {few} or {few + shard_size}, or another shard_size=."
        )


def check_no_crossing(arguments: Mapping[str, Any]) -> None:
    """Refuse what would have to look at all chains while they run.

    :raises ValueError: naming the argument.
    """
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"{name}= is not offered with executor=: shards run by themselves, and nothing "
                "looks at all chains before they have ended. Leave it out."
            )


@contextlib.contextmanager
def shards_taken_up(path: Path) -> Iterator[ShardedRun]:
    """What the folder of an earlier run says, while no other process begins shards in it.

    :raises RuntimeError: one does.
    """
    with alone(path):
        yield read_run(path)


def run_shards(whole: Whole, place: Place) -> tuple[RunRecord, BaseException | None]:
    """Make all shards that are missing; the record of those that there are then.

    :returns: also what has ended the run early: what the first failed shard raised, or Ctrl-C.
    :raises FileExistsError: the folder of a new run is there already.
    :raises ValueError: an earlier run is one of something else.
    """
    if whole.initial_params is not None:
        given_starts(whole.target, whole.initial_params, whole.options["num_chains"])
    with contextlib.ExitStack() as stack:
        run, unused = place.run, contextlib.ExitStack()
        if run is None:
            run = _new(whole)
            if place.folder is not None:
                unused = stack.enter_context(_made(place.folder, run))
        elif place.folder is not None:
            check_same(place.folder, run.saved, whole.target, whole.identity)
            warn_if_elsewhere(place.folder, run.saved.about["attrs"], {"num_threads": 1})
            run = run.asked(whole.options["num_samples"])
            write_run(place.folder, run)
        found: dict[int, ShardDraws] = {}
        told: dict[tuple[type[Warning], str], None] = {}

        def ended(index: int, draws: ShardDraws) -> None:
            told.update(dict.fromkeys(draws.told))
            if place.folder is None:
                found[index] = draws._replace(told=())
            elif draws_of_shard(place.folder, index) < whole.options["num_samples"]:
                raise FileNotFoundError(
                    f"A worker has ended shard {index}, and {folder_of_shard(place.folder, index)} "
                    "is not there: store= must be a folder that all workers share."
                )

        finished = run_all(
            place.executor,
            run_shard,
            _missing(whole, run, place.folder),
            ended,
            total=run.num_shards,
            disable_progbar=place.disable_progbar,
        )
        if finished.goes_on:
            unused.pop_all()
        record = _record(whole, run, found, place.folder)
    for category, message in told:
        warnings.warn(message, category, stacklevel=4)
    if finished.errors:
        return record, _named(finished.errors, run, place.folder)
    return record, KeyboardInterrupt() if finished.interrupted else None


def tell_of_shards(record: RunRecord, error: BaseException | None) -> None:
    """Warn of an interrupt, and raise what a shard has raised."""
    if isinstance(error, KeyboardInterrupt):
        about = record.attrs
        kept = about["num_shards"] - len(about.get("missing_shards", ()))
        warnings.warn(
            f"Interrupted: {kept} of {about['num_shards']} shards had ended; their "
            f"{record.num_chains} chains are kept, and marked as partial.",
            stacklevel=4,
        )
    elif error is not None:
        raise error


def _new(whole: Whole) -> ShardedRun:
    seed = int(torch.randint(2**63 - 1, ()))
    given, options = whole.initial_params, whole.options
    chains = min(options["num_chains"], options["shard_size"])
    transitions = options["warmup_steps"] + options["num_samples"] * options["thinning"]
    return new_run(
        dict(options),
        probes=probes(whole.target, somewhere(whole.target), [s.name for s in whole.target.sites]),
        initial_params=None if given is None else {n: as_array(v) for n, v in given.items()},
        identity=whole.identity,
        attrs={
            "seed": seed,
            "gear": name_of_gear(whole.kernel, whole.target, chains, transitions),
            "num_threads": 1,
            "torch_version": str(torch.__version__),
        },
    )


@contextlib.contextmanager
def _made(folder: Path, run: ShardedRun) -> Iterator[contextlib.ExitStack]:
    """The folder of a new run; it is gone again where no shard has begun in it.

    :returns: what is to remove it, for whoever knows that a worker may yet begin a shard.
    """
    check_free(folder, RESUME)
    claim(folder, RESUME)
    with contextlib.ExitStack() as unused:
        unused.callback(_remove_if_empty, folder)
        with alone(folder):
            write_run(folder, run)
            yield unused


def _remove_if_empty(folder: Path) -> None:
    if not any(draws.is_dir() for draws in folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)


def _missing(whole: Whole, run: ShardedRun, folder: Path | None) -> dict[int, Shard]:
    """The shards that have to be made, or to go on, by their numbers."""
    options = {**run.options, **whole.others}
    del options["shard_size"]
    size = options["num_chains"] = run.chains_of_shard
    around = Surroundings.here()
    given = whole.initial_params
    one_for_all = given is None or whole.target.unconstrain(given).dim() == 1
    found = {}
    for index in range(run.num_shards):
        if folder is not None and draws_of_shard(folder, index) >= options["num_samples"]:
            continue
        starts = given
        if given is not None and not one_for_all:
            own = index if size == 1 else slice(index * size, (index + 1) * size)
            starts = {name: value[own] for name, value in given.items()}
        found[index] = Shard(
            whole.mcmc,
            whole.kernel,
            options,
            whole.args,
            whole.kwargs,
            around,
            seed_of(run.seed, index),
            run.gear,
            None if starts is None else {name: as_array(v) for name, v in starts.items()},
            None if folder is None else folder_of_shard(folder, index),
        )
    return found


def _record(
    whole: Whole, run: ShardedRun, found: dict[int, ShardDraws], folder: Path | None
) -> RunRecord:
    """The record of the shards in a folder, or of those found, which go as they are copied."""
    if folder is None:
        ended = sorted(found)
        shards = (found.pop(index) for index in ended)
    else:
        rows, ended = ended_shards(folder, run)
        shards = read_shards(folder, ended, rows)
    attributes: list[Mapping[str, Any]] = []

    def told() -> Iterator[ShardDraws]:
        for draws in shards:
            attributes.append(draws.attrs)
            yield draws

    sites, wanted = whole.options["sites"], whole.options["num_samples"]
    target = whole.target
    record = merged_record(
        target,
        told(),
        run.chains_of_shard * len(ended),
        coordinates=None if sites is None else target.coordinates_of(sites),
        sites=sites,
        max_tree_depth=whole.kernel.max_tree_depth,
        thinning=whole.options["thinning"],
        folder=folder,
    )
    complete = len(ended) == run.num_shards and record.num_draws == wanted
    attrs = merged_attributes(attributes, attributes_of_whole(run, ended, complete=complete))
    return record._replace(attrs=attrs, complete=complete)


def attributes_of_whole(run: ShardedRun, ended: list[int], *, complete: bool) -> dict[str, Any]:
    """The attributes of a run in shards that are not those of its shards."""
    size = run.chains_of_shard
    missing = [index for index in range(run.num_shards) if index not in ended]
    return {
        "seed": run.seed,
        "num_chains": size * len(ended),
        "num_shards": run.num_shards,
        "shard_size": size,
        "complete": complete,
        **({"missing_shards": missing} if missing else {}),
    }


def _named(
    errors: Mapping[int, BaseException], run: ShardedRun, folder: Path | None
) -> BaseException:
    """What the first of the failed shards raised, with the numbers of all."""
    first = min(errors)
    error = errors[first]
    names = ", ".join(str(index) for index in sorted(errors)[:10])
    more = f" and {len(errors) - 10} more" if len(errors) > 10 else ""
    if folder is None:
        kept = "what the others drew is kept"
    elif folder.exists():
        kept = f"what was drawn is in {folder}, and {RESUME} makes what is missing"
    else:
        kept = f"none had begun, and {folder} is not kept"
    error.add_note(f"Failed of {run.num_shards} shards: {names}{more}; {kept}.")
    return error
