"""A run in shards on disk: many of them, and what is asked of them later."""

import contextlib
import os
import resource
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
from numpy.testing import assert_array_equal

import pyro_ebm as ebm
from pyro_ebm.mcmc.api import joined
from pyro_ebm.mcmc.native import library
from pyro_ebm.shards import seed_of

from .sharded_run import SHARDS, SIZE, begun, resumed

MANY = 6


def lattice(path: Path) -> ebm.MCMC:
    """A small run in many shards."""
    pyro.set_rng_seed(1)
    mcmc = ebm.MCMC(
        ebm.Gibbs(ebm.Ising.lattice((3, 3))),
        6,
        2,
        num_chains=2 * MANY,
        shard_size=2,
        executor=ebm.SerialExecutor(),
        store=path,
        save_warmup=True,
        disable_progbar=True,
    )
    mcmc.run()
    return mcmc


@contextlib.contextmanager
def few_files(more: int) -> Iterator[None]:
    """Let this process open so many files more than it has open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = len(os.listdir("/proc/self/fd")) + more
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_shards_than_files_may_be_open_are_run_and_read(tmp_path):
    # What is imported late opens files of its own.
    ebm.from_store(lattice(tmp_path / "before").store)
    with few_files(80):
        drawn = lattice(tmp_path / "run").get_samples(group_by_chain=True)["x"]
        data = ebm.from_store(tmp_path / "run")
    assert drawn.shape == (2 * MANY, 6, 3, 3)
    assert_array_equal(data.posterior["x"].values, drawn.numpy())
    assert data.warmup_posterior.sizes["chain"] == 2 * MANY


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is a part of a file."""
    whole: Any = array
    while isinstance(whole, np.ndarray) and not isinstance(whole, np.memmap):
        whole = whole.base
    return isinstance(whole, np.memmap)


def test_large_arrays_of_all_shards_are_on_disk(tmp_path, monkeypatch):
    made = begun(store=tmp_path / "run", num_samples=5).get_samples()["x"]
    monkeypatch.setattr(joined, "_LARGE", 0)
    mcmc = resumed(tmp_path / "run")
    assert_array_equal(mcmc.get_samples()["x"], made)
    read = ebm.from_store(tmp_path / "run").posterior["x"].values
    assert is_mapped(read)
    assert_array_equal(read.reshape(-1), made)


class Shorter(ebm.SerialExecutor):
    """Ends every shard at fewer draws than it was asked for."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def submit(self, fn, /, shard):
        options = {**shard.options, "num_samples": self.num_samples}
        return super().submit(fn, shard._replace(options=options))


def test_fewer_draws_than_before_may_be_asked_for(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(FileNotFoundError):
        begun(Shorter(10), store=path)
    mcmc = resumed(path, num_samples=10)
    assert mcmc.get_samples(group_by_chain=True)["x"].shape == (SHARDS * SIZE, 10)
    data = ebm.from_store(path)
    assert (data.posterior.sizes["draw"], data.posterior.attrs["complete"]) == (10, 1)


def test_the_generator_of_a_shard_has_the_seed_of_the_shard(tmp_path):
    path = tmp_path / "run"
    seed = begun(store=path, num_samples=2).to_arviz().posterior.attrs["seed"]
    for index in range(SHARDS):
        shard = ebm.from_store(path / f"shard-{index:04d}.zarr")
        assert shard.posterior.attrs["seed"] == seed_of(seed, index)


class Afar(ebm.SerialExecutor):
    """Has a worker that gets ready for the first shard, and goes on when Ctrl-C ends the run."""

    def __init__(self) -> None:
        self.waits: list = []

    def submit(self, fn, /, *args):
        if self.waits:
            raise KeyboardInterrupt
        future: Future = Future()
        future.set_running_or_notify_cancel()
        self.waits.append((fn, args))
        return future

    def end(self) -> None:
        ((fn, args),) = self.waits
        fn(*args)


def test_what_a_worker_still_makes_after_ctrl_c_can_be_resumed(tmp_path):
    path, executor = tmp_path / "run", Afar()
    with pytest.warns(UserWarning, match="Interrupted: 0 of 3 shards"):
        begun(executor, store=path, num_samples=5)
    executor.end()
    assert resumed(path).get_samples(group_by_chain=True)["x"].shape == (SHARDS * SIZE, 5)


class Nowhere(ebm.SerialExecutor):
    """Has no worker that begins a shard."""

    def submit(self, fn, /, *args):
        return super().submit(lambda *_: 1 // 0)


def test_a_run_of_which_no_shard_begins_is_said_to_be_gone(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(ZeroDivisionError) as caught:
        begun(Nowhere(), store=path)
    assert not path.exists()
    assert f"none had begun, and {path} is not kept" in caught.value.__notes__[-1]


class Bare(ebm.SerialExecutor):
    """Has workers without a C compiler."""

    def submit(self, fn, /, *args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library, "_library", lambda _: "no C compiler is found")
            return super().submit(fn, *args)


def test_a_worker_that_would_round_otherwise_is_refused():
    with pytest.raises(ValueError, match=r"gear 'native', which needs a C compiler"):
        begun(Bare(), num_samples=2)
