"""A run in shards: the same draws wherever they are made, and whatever ends it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from numpy.testing import assert_array_equal

import pyro_ebm as ebm
from pyro_ebm.mcmc.api.figures import NESTED, coordinates, rhat
from pyro_ebm.shards import Surroundings, seed_of, within

from .failing import Failing
from .sharded_run import DRAWS, SHARDS, SIZE, WARMUP, Y, begun, model, resumed


def draws(mcmc: ebm.MCMC) -> dict[str, np.ndarray]:
    return {name: v.numpy() for name, v in mcmc.get_samples(group_by_chain=True).items()}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_array_equal(found[name], value)


@pytest.fixture(scope="module")
def whole() -> dict[str, np.ndarray]:
    """The draws of all shards, made here one after another."""
    return draws(begun())


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """A Dask cluster of two processes on this machine."""
    import dask
    from distributed import Client, LocalCluster

    # Of a killed worker another process notices at once; the nanny begins a new one.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 3}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client


def test_a_shard_is_an_ordinary_run_with_a_seed_of_its_own(whole):
    pyro.set_rng_seed(3)
    seed = int(torch.randint(2**63 - 1, ()))
    with within(Surroundings.here(), seed_of(seed, 1)):
        alone = ebm.MCMC(ebm.NUTS(model), DRAWS, WARMUP, num_chains=SIZE, disable_progbar=True)
        alone.seed = seed_of(seed, 1)
        alone.run(Y)
    assert_same(draws(alone), {name: value[SIZE : 2 * SIZE] for name, value in whole.items()})
    assert not np.array_equal(whole["x"][:SIZE], whole["x"][SIZE : 2 * SIZE])


def test_a_sharded_run_leaves_the_random_stream_as_one_in_one_piece_does():
    pyro.set_rng_seed(3)
    torch.randint(2**63 - 1, ())
    after = torch.rand(3)
    begun(num_samples=2)
    assert torch.equal(torch.rand(3), after)


@pytest.mark.slow
def test_a_process_pool_makes_the_same_draws(whole, tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert_same(draws(begun(pool, store=tmp_path / "run")), whole)
    data = ebm.from_store(tmp_path / "run")
    assert_array_equal(data.posterior["x"].values, whole["x"])


def test_dask_makes_the_same_draws(whole, cluster, tmp_path):
    assert_same(draws(begun(cluster.get_executor(), store=tmp_path / "run")), whole)


def frail(flag: Path, calls: int):
    """A model that kills its process once, after so many evaluations."""
    made = []

    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        made.append(None)
        # The branch on a value keeps vmap, and with it any recording, away.
        if float(mu.detach()) == float("inf") or (len(made) > calls and not flag.exists()):
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    return model


@pytest.mark.parametrize("kept", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_killed_worker_of_a_cluster_changes_nothing(cluster, tmp_path, kept):
    flag = tmp_path / "killed"

    def run(executor, **options):
        pyro.set_rng_seed(5)
        kernel = ebm.NUTS(frail(flag, calls=150), max_tree_depth=3)
        mcmc = ebm.MCMC(kernel, 30, 20, num_chains=4, executor=executor, shard_size=2, **options)
        mcmc.disable_progbar = True
        with pytest.warns(UserWarning, match="chain by chain"):
            mcmc.run(torch.tensor(1.0))
        return draws(mcmc)

    store = {"store": tmp_path / "run", "checkpoint_seconds": 0.0} if kept else {}
    found = run(cluster.get_executor(), **store)
    assert flag.exists()
    assert_same(found, run(ebm.SerialExecutor()))


def test_workers_know_the_parameters_and_the_default_type(cluster):
    def model():
        scale = pyro.param("scale", torch.tensor(1.0))
        pyro.sample("x", dist.Normal(0.0, scale))

    torch.set_default_dtype(torch.float64)
    pyro.param("scale", torch.tensor(20.0))

    def run(executor):
        pyro.set_rng_seed(1)
        mcmc = ebm.MCMC(ebm.NUTS(model), 40, 30, num_chains=4, shard_size=2, executor=executor)
        mcmc.disable_progbar = True
        mcmc.run()
        return mcmc.get_samples()["x"]

    there = run(cluster.get_executor())
    assert there.dtype == torch.float64
    assert float(there.std()) > 8.0
    assert torch.equal(there, run(ebm.SerialExecutor()))


def test_an_error_names_the_shard_and_keeps_the_others(whole):
    failing = Failing(1, ZeroDivisionError("no"))
    mcmc = ebm.MCMC(
        ebm.NUTS(model),
        DRAWS,
        WARMUP,
        num_chains=SHARDS * SIZE,
        disable_progbar=True,
        executor=failing,
        shard_size=SIZE,
    )
    pyro.set_rng_seed(3)
    with pytest.raises(ZeroDivisionError) as caught:
        mcmc.run(Y)
    assert "Failed of 3 shards: 1; what the others drew is kept" in caught.value.__notes__[-1]
    kept = np.r_[:SIZE, 2 * SIZE : 3 * SIZE]
    assert_same(draws(mcmc), {name: value[kept] for name, value in whole.items()})
    attrs = mcmc.to_arviz().posterior.attrs
    assert (attrs["complete"], attrs["missing_shards"]) == (0, "[1]")
    assert "partial" in mcmc.diagnose()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("no")], ids=str)
def test_a_stopped_run_goes_on_with_the_shards_that_are_missing(whole, tmp_path, error):
    path = tmp_path / "run"
    stops = (
        pytest.warns(UserWarning, match="Interrupted: 1 of 3 shards had ended; their 4 chains")
        if isinstance(error, KeyboardInterrupt)
        else pytest.raises(ZeroDivisionError)
    )
    with stops:
        begun(Failing(1, error), store=path)
    partial = ebm.from_store(path)
    assert partial.posterior.attrs["complete"] == 0
    assert_array_equal(partial.posterior["x"].values[:SIZE], whole["x"][:SIZE])
    assert_same(draws(resumed(path)), whole)
    assert ebm.from_store(path).posterior.attrs["complete"] == 1


@pytest.mark.slow
def test_a_killed_run_goes_on(whole, tmp_path):
    path = tmp_path / "run"
    program = [sys.executable, "-m", "tests.mcmc.sharded_run", str(path)]
    with subprocess.Popen(program) as process:
        second = path / "shard-0001.zarr" / "checkpoint.npz"
        while not second.exists() and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert_same(draws(resumed(path)), whole)


def test_more_draws_are_those_of_a_longer_run(tmp_path):
    path = tmp_path / "run"
    begun(store=path, num_samples=10)
    with contextlib.suppress(ZeroDivisionError):
        longer = ebm.MCMC.resume(
            path, ebm.NUTS(model), num_samples=15, executor=Failing(1, ZeroDivisionError())
        )
        longer.disable_progbar = True
        longer.run(Y)
    # One shard is shorter than the others: all count as far as it goes.
    assert ebm.from_store(path).posterior.sizes["draw"] == 10
    more = resumed(path)
    assert draws(more)["x"].shape == (SHARDS * SIZE, 15)
    assert_array_equal(ebm.from_store(path).posterior["x"].values, draws(more)["x"])


def test_a_run_on_disk_is_read_as_it_was_made(tmp_path):
    mcmc = begun(store=tmp_path / "run", save_warmup=True, sites=["square"])
    made, read = mcmc.to_arviz(save_warmup=True), ebm.from_store(tmp_path / "run")
    for group in ("posterior", "warmup_posterior", "sample_stats", "warmup_sample_stats"):
        assert set(read[group].data_vars) == set(made[group].data_vars), group
        for name in made[group].data_vars:
            assert_array_equal(read[group][name].values, made[group][name].values)
    assert read.posterior.attrs["num_chains"] == SHARDS * SIZE
    assert read.posterior.attrs["gradient_steps"] == made.posterior.attrs["gradient_steps"]


def test_superchains_never_span_two_shards(tmp_path):
    options = {"num_chains": 256, "shard_size": 128, "num_samples": 4, "store": tmp_path / "run"}
    mcmc = begun(**options)
    ids = mcmc.record.superchain_ids.numpy()
    assert_array_equal(np.unique(ids, return_counts=True)[1], np.full(16, 16))
    assert set(ids[:128]).isdisjoint(ids[128:])
    assert rhat(mcmc.record, coordinates(mcmc.record)).kind == NESTED
    assert_array_equal(ebm.from_store(tmp_path / "run").sample_stats["superchain"][:, 0], ids)


@pytest.mark.parametrize("size", [1, 2])
def test_given_starts_go_to_the_shards_of_their_chains(size):
    starts = torch.arange(2.0 * size)
    kernel = ebm.NUTS(
        lambda: pyro.sample("x", dist.Normal(0.0, 9.0)), step_size=1e-9, adapt_step_size=False
    )
    mcmc = ebm.MCMC(
        kernel,
        1,
        0,
        initial_params={"x": starts},
        num_chains=2 * size,
        executor=ebm.SerialExecutor(),
        shard_size=size,
        disable_progbar=True,
    )
    mcmc.run()
    assert torch.allclose(mcmc.get_samples()["x"], starts, atol=1e-4)


def test_a_resumed_run_begins_its_shards_at_the_given_starts(tmp_path):
    def run(executor, **options):
        pyro.set_rng_seed(8)
        starts = {"x": torch.linspace(-3.0, 3.0, 4)}
        mcmc = ebm.MCMC(
            ebm.NUTS(normal),
            5,
            5,
            initial_params=starts,
            num_chains=4,
            executor=executor,
            shard_size=2,
            disable_progbar=True,
            **options,
        )
        mcmc.run()
        return mcmc.get_samples()["x"]

    def normal():
        return pyro.sample("x", dist.Normal(0.0, 1.0))

    path = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        run(Failing(1, ZeroDivisionError()), store=path)
    again = ebm.MCMC.resume(path, ebm.NUTS(normal))
    again.run()
    assert torch.equal(again.get_samples()["x"], run(ebm.SerialExecutor()))


def test_another_model_is_refused_before_a_shard_begins(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        begun(Failing(1, ZeroDivisionError()), store=path)
    again = ebm.MCMC.resume(path, ebm.NUTS(model))
    with pytest.raises(ValueError, match="data of site 'y' is another"):
        again.run(Y + 1)
    with pytest.raises(ValueError, match="at least the 30 draws"):
        ebm.MCMC.resume(path, ebm.NUTS(model), num_samples=10)
    with pytest.raises(FileExistsError, match=r"MCMC\.resume"):
        begun(store=path)


def test_a_run_without_an_ended_shard_is_said_to_be_so(tmp_path):
    path = tmp_path / "run"

    mcmc = ebm.MCMC(
        ebm.NUTS(model),
        5,
        5,
        num_chains=4,
        shard_size=2,
        store=path,
        executor=Failing(0, KeyboardInterrupt()),
        disable_progbar=True,
    )
    with pytest.warns(UserWarning, match="Interrupted: 0 of 2 shards"):
        mcmc.run(Y)
    assert not path.exists()
    with pytest.raises(RuntimeError, match="before every chain had made its first draw"):
        mcmc.get_samples()
    assert "no draw" in mcmc.diagnose().lower() or "ended before" in mcmc.diagnose().lower()


def test_arguments_that_look_at_all_chains_are_refused(tmp_path):
    kernel = ebm.NUTS(model)
    here = ebm.SerialExecutor()
    with pytest.raises(ValueError, match=r"multiple of shard_size=256.*take 256 or 512"):
        ebm.MCMC(kernel, 10, num_chains=300, executor=here)
    with pytest.raises(ValueError, match="stop= is not offered with executor="):
        ebm.MCMC(kernel, 10, stop=ebm.UntilESS(10), executor=here)
    with pytest.raises(ValueError, match="hook_fn= is not offered"):
        ebm.MCMC(kernel, 10, hook_fn=print, executor=here)
    with pytest.raises(ValueError, match=r"shard_size=2 needs an executor= .*SerialExecutor"):
        ebm.MCMC(kernel, 10, num_chains=4, shard_size=2)
    one_piece = ebm.MCMC(kernel, 2, store=tmp_path / "run", disable_progbar=True)
    one_piece.run(Y)
    with pytest.raises(ValueError, match="a run in one piece"):
        ebm.MCMC.resume(tmp_path / "run", kernel, executor=here)


def test_a_run_in_shards_starts_no_other(whole):
    first = begun(num_samples=2)
    second = ebm.MCMC(ebm.NUTS(model), 2, warmup_from=first, num_chains=4, disable_progbar=True)
    with pytest.raises(ValueError, match="a run in one piece"):
        second.run(Y)
