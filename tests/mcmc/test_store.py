"""Draws on disk are those in memory, at any pace of the chains, and are read without the model."""

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import pyro_ebm as ebm
from pyro_ebm.mcmc import draws as draws_module
from pyro_ebm.mcmc.api import zarr_array
from pyro_ebm.mcmc.api.arguments import check_seconds, folder_of
from pyro_ebm.mcmc.api.stored_group import Layout, StoredGroup
from pyro_ebm.mcmc.api.zarr_array import ZarrArray
from pyro_ebm.mcmc.draws import STATISTICS, Draws, StoredDraws

from .stored_run import CHAINS, DRAWS, SIGMA, WARMUP, Y, begun, model

ROOT = Path(__file__).parent.parent.parent


def group_in(path: Path, *, chains: int, coordinates: int) -> StoredGroup:
    layout = Layout(chains, coordinates, "float32", {}, rows=50, warmup_rows=0)
    return StoredGroup(path, layout, create=True)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array's numbers lie in a file that is mapped, as Linux tells."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, inode, *_ = line.split()
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return inode != "0"
    return False


@pytest.mark.parametrize("slowest", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("numbers", [1, 10_000, 2**24])
def test_chains_of_any_pace_leave_the_same_draws_on_disk(
    slowest: float, numbers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(draws_module, "_BUFFERED", numbers)
    chains, coordinates, rows = 7, 3, 400
    like = torch.empty(())
    memory = Draws(rows, coordinates, chains, like)
    group = group_in(tmp_path, chains=chains, coordinates=coordinates)
    disk = StoredDraws(rows, coordinates, like, group, torch.zeros(chains, dtype=torch.long))
    pace = torch.linspace(slowest, 1.0, chains)
    for _ in range(500):
        keep = torch.rand(chains) < pace
        record = torch.randn(coordinates + len(STATISTICS), chains)
        memory.write(keep, record)
        disk.write(keep, record)
    assert disk.complete == memory.complete
    assert torch.equal(disk.positions, memory.positions)
    for name, expected in memory.statistics.items():
        found = disk.statistics[name]
        assert torch.equal(found, expected.to(found.dtype)), name
    # What fast chains made beyond is on disk as well.
    ahead = int(memory.kept.max())
    beyond = group.positions(ahead)
    assert torch.equal(beyond[:rows, :, -1], memory._buffer[-1, : min(rows, ahead), :3])


@pytest.mark.parametrize("chunk_bytes", [1, 100, 2**22])
def test_an_array_of_rows_in_any_order_is_a_zarr_array(
    chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import zarr

    monkeypatch.setattr(zarr_array, "_CHUNK_BYTES", chunk_bytes)
    rows, chains = 30, 4
    values = np.random.default_rng(0).normal(size=(rows, chains, 2))

    def array() -> ZarrArray:
        return ZarrArray(
            tmp_path / "x",
            (chains, 2),
            np.dtype(float),
            axes=("chain", "of"),
            rows=9,
            create=not (tmp_path / "x").exists(),
        )

    row, chain = (part.ravel() for part in np.indices((rows, chains)))
    for part in np.array_split(np.random.default_rng(1).permutation(rows * chains), 8):
        # Opened anew each time, as by a run that is resumed.
        array().write(row[part], chain[part], values[row[part], chain[part]])
    array().sync(rows - 3)
    assert np.array_equal(array().read(rows), values)
    opened = zarr.open_array(tmp_path / "x", mode="r")
    assert np.array_equal(opened[:], values[:-3])
    assert opened.metadata.dimension_names == ("draw", "chain", "of")


def filled_array(folder: Path, values: np.ndarray) -> ZarrArray:
    rows, chains = values.shape
    axes = {"axes": ("chain",), "rows": rows}
    array = ZarrArray(folder, (chains,), values.dtype, create=True, **axes)
    row, chain = (part.ravel() for part in np.indices((rows, chains)))
    array.write(row, chain, values.ravel())
    return array


def test_a_file_that_a_kill_left_longer_is_closed_off_anew(tmp_path: Path):
    """Readers of Zarr find the index at the end of the file."""
    import zarr

    values = np.random.default_rng(0).normal(size=(20, 3))
    filled_array(tmp_path / "x", values).sync(20)
    with (tmp_path / "x" / "c" / "0" / "0").open("ab") as file:
        file.write(bytes(5 * file.tell() + 7))
    opened = ZarrArray(tmp_path / "x", (3,), values.dtype, axes=("chain",), rows=20, create=False)
    opened.sync(20)
    assert np.array_equal(opened.read(20), values)
    assert np.array_equal(zarr.open_array(tmp_path / "x", mode="r")[:], values)


def test_a_full_disk_that_keeps_what_it_had_room_for_changes_no_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import zarr

    values = np.random.default_rng(0).normal(size=(20, 3))
    array = filled_array(tmp_path / "x", values)

    def full(descriptor: int, offset: int, length: int) -> None:
        os.truncate(descriptor, offset + length // 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        array.write(np.array([30]), np.array([0]), np.array([1.0]))
    array.sync(20)
    assert np.array_equal(zarr.open_array(tmp_path / "x", mode="r")[:], values)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ebm.MCMC, ebm.MCMC]:
    """One run in memory and on disk."""
    path = tmp_path_factory.mktemp("store") / "run.zarr"
    return begun(save_warmup=True), begun(save_warmup=True, store=path, checkpoint_seconds=0.1)


def assert_same(found: Any, expected: Any, groups: list[str]) -> None:
    for group in groups:
        assert set(found[group].data_vars) == set(expected[group].data_vars), group
        for name, variable in expected[group].data_vars.items():
            seen = found[group][name]
            assert seen.dims == variable.dims, (group, name)
            assert seen.dtype == variable.dtype, (group, name)
            assert np.array_equal(seen.values, variable.values), (group, name)


def test_a_run_on_disk_is_the_run_in_memory(pair: tuple[ebm.MCMC, ebm.MCMC]):
    memory, disk = (mcmc.to_arviz(save_warmup=True) for mcmc in pair)
    assert disk.groups() == memory.groups()
    assert_same(disk, memory, memory.groups())
    samples = [mcmc.get_samples() for mcmc in pair]
    assert all(torch.equal(samples[0][name], samples[1][name]) for name in ("mu", "tau", "z"))
    assert pair[0].diagnose() == pair[1].diagnose()


def test_a_stored_run_is_read_without_its_model(pair: tuple[ebm.MCMC, ebm.MCMC]):
    memory, disk = pair
    assert disk.store is not None
    found, expected = ebm.from_store(disk.store), memory.to_arviz(save_warmup=True)
    sampled = ["posterior", "unconstrained_posterior", "sample_stats"]
    warm = [f"warmup_{name}" for name in sampled]
    assert_same(found, expected, [*sampled, *warm, "observed_data", "constant_data"])
    assert found.posterior.attrs["complete"] == 1
    assert found.posterior.attrs["seed"] == expected.posterior.attrs["seed"]
    assert list(found.posterior["school"].values) == list(range(len(Y)))


def test_nothing_is_read_before_it_is_looked_at(pair: tuple[ebm.MCMC, ebm.MCMC]):
    disk = pair[1]
    assert disk.store is not None
    for data in (ebm.from_store(disk.store), disk.to_arviz()):
        for group in ("posterior", "unconstrained_posterior"):
            for name, variable in data[group].data_vars.items():
                assert is_mapped(variable.data), (group, name)
    assert is_mapped(disk.to_arviz().log_likelihood["y"].data)


def test_readers_of_zarr_find_the_draws(pair: tuple[ebm.MCMC, ebm.MCMC]):
    disk = pair[1]
    assert disk.store is not None
    with xr.open_datatree(disk.store, engine="zarr") as tree:
        theta = tree["posterior"]["theta"].transpose("chain", "draw", "school")
        assert np.array_equal(theta.values, disk.to_arviz().posterior["theta"].values)
        assert tree["sample_stats"]["diverging"].dtype == bool
        assert tree["warmup_posterior"]["mu"].shape == (WARMUP, CHAINS)


def test_an_array_of_a_run_changed_in_memory_stays_as_it_is_on_disk(
    pair: tuple[ebm.MCMC, ebm.MCMC],
):
    disk = pair[1]
    assert disk.store is not None
    before = ebm.from_store(disk.store).posterior["mu"].values.copy()
    disk.get_samples(group_by_chain=True)["mu"].zero_()
    assert np.array_equal(ebm.from_store(disk.store).posterior["mu"].values, before)


def mixture(data: torch.Tensor) -> None:
    middle = pyro.sample("middle", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
    with pyro.plate("n", len(data)):
        which = pyro.sample("which", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        place = pyro.deterministic("place", middle[which.long()], event_dim=0)
        pyro.sample("y", dist.Normal(place, 1.0), obs=data)


def test_discrete_sites_are_drawn_back_for_a_run_on_disk(tmp_path: Path):
    exported = []
    for options in ({}, {"store": tmp_path / "run.zarr"}):
        pyro.set_rng_seed(0)
        mcmc = ebm.MCMC(ebm.NUTS(mixture), 20, 30, num_chains=3, **options)
        mcmc.run(torch.tensor([-3.0, -2.0, 3.0]))
        exported.append(mcmc.to_arviz())
    assert_same(exported[1], exported[0], exported[0].groups())
    assert set(ebm.from_store(tmp_path / "run.zarr").posterior.data_vars) == {"middle"}


def odd_names() -> None:
    pyro.sample("a/b", dist.Gamma(2.0, 1.0).expand([2]).to_event(1))
    pyro.sample("..", dist.Normal(0.0, 1.0))
    pyro.sample("__x", dist.Dirichlet(torch.ones(3)))


def test_sites_of_any_name_are_stored(tmp_path: Path):
    mcmc = ebm.MCMC(ebm.NUTS(odd_names), 5, 10, num_chains=2, store=tmp_path / "run.zarr")
    mcmc.run()
    found, expected = ebm.from_store(tmp_path / "run.zarr"), mcmc.to_arviz()
    assert_same(found, expected, ["posterior", "unconstrained_posterior"])
    assert {p.name for p in tmp_path.iterdir()} == {"run.zarr"}


@pytest.mark.parametrize("sites", [("tau",), ("theta",), ("mu", "z")])
def test_only_the_sites_that_are_asked_for_are_stored(sites: tuple[str, ...], tmp_path: Path):
    memory, disk = begun(20, sites=sites), begun(20, sites=sites, store=tmp_path / "run.zarr")
    assert torch.equal(memory.record.positions, disk.record.positions)
    groups = ["posterior", "sample_stats"]
    groups += [] if sites == ("theta",) else ["unconstrained_posterior"]
    for data in (ebm.from_store(tmp_path / "run.zarr"), disk.to_arviz()):
        assert_same(data, memory.to_arviz(), groups)
    samples = disk.get_samples()
    assert set(samples) == set(memory.get_samples()) == set(sites) - {"theta"}


KINDS: dict[str, Callable[[], ebm.MCMC]] = {
    "energy": lambda: ebm.NUTS(ebm.Banana()),
    "distribution": lambda: ebm.HMC(ebm.EnergyDistribution(ebm.DoubleWell(2)), num_steps=3),
    "float64": lambda: ebm.NUTS(ebm.DiagonalGaussian(torch.zeros(2).double())),
}


@pytest.mark.parametrize("kind", KINDS)
def test_energies_are_stored_too(kind: str, tmp_path: Path):
    def run(**options: Any) -> ebm.MCMC:
        pyro.set_rng_seed(1)
        mcmc = ebm.MCMC(KINDS[kind](), 10, 30, num_chains=130, thinning=2, **options)
        mcmc.run()
        return mcmc

    memory, disk = run(), run(store=tmp_path / "run.zarr")
    assert_same(disk.to_arviz(), memory.to_arviz(), memory.to_arviz().groups())
    found = ebm.from_store(tmp_path / "run.zarr")
    assert_same(found, memory.to_arviz(), ["posterior", "sample_stats"])
    assert "superchain" in found.sample_stats


def test_predictions_and_hooks_see_stored_draws(tmp_path: Path):
    seen: list[tuple[int, ...]] = []

    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        seen.append(tuple(samples.shape))

    disk = begun(12, store=tmp_path / "run.zarr", hook_fn=hook)
    assert seen[-1] == (12, 6, CHAINS)
    assert disk.predict(SIGMA, Y)["y"].shape == (CHAINS, 12, len(Y))


def test_memory_holds_a_bounded_number_of_draws(tmp_path: Path):
    like = torch.empty(())
    for chains, coordinates in itertools.product((4, 1024), (2, 1000)):
        kept = torch.zeros(chains, dtype=torch.long)
        group = group_in(tmp_path / f"{chains}-{coordinates}", chains=chains, coordinates=1)
        stored = StoredDraws(10**7, coordinates, like, group, kept)
        assert stored._buffer.numel() < 2**25


FLAT = """
import resource, sys, torch
import pyro_ebm as ebm

torch.set_num_threads(1)
energy = ebm.DiagonalGaussian(torch.zeros(100))
peaks = []
for number in (200, 2000):
    kernel = ebm.HMC(energy, num_steps=1)
    path = f"{sys.argv[1]}/{number}.zarr"
    mcmc = ebm.MCMC(kernel, number, 0, num_chains=256, store=path, disable_progbar=True)
    mcmc.run()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print((peaks[1] - peaks[0]) * 1024)
"""


def test_memory_does_not_grow_with_the_draws(tmp_path: Path):
    """Ten times as many take no more, but for a buffer that the short run does not fill."""
    found = subprocess.run(
        [sys.executable, "-c", FLAT, str(tmp_path)], cwd=ROOT, capture_output=True, check=True
    )
    size_of_draws = 1800 * 256 * 109 * 4
    # The buffer, and its copy on the way to the disk.
    assert int(found.stdout) < 2 * 4 * draws_module._BUFFERED < size_of_draws


def test_nothing_is_written_over(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="holds no run"):
        begun(5, store=tmp_path / "mine")


def test_of_two_new_runs_in_one_folder_the_first_goes_on(tmp_path: Path):
    path = tmp_path / "deep" / "run.zarr"
    second = begun(DRAWS)

    def late(*_: object) -> None:
        """The second run has looked before the first had made its folder."""

    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pyro_ebm.mcmc.api.mcmc.check_free", late)
            with pytest.raises(FileExistsError):
                begun(5, store=path)
        assert (path / "run.npz").exists()

    first = begun(DRAWS, store=path, hook_fn=hook)
    assert torch.equal(first.record.positions, second.record.positions)
    assert ebm.from_store(path).posterior.sizes["draw"] == DRAWS


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_time_between_checkpoints_is_no_less_than_nothing(seconds: float, tmp_path: Path):
    with pytest.raises(ValueError, match="checkpoint_seconds"):
        begun(5, store=tmp_path / "run.zarr", checkpoint_seconds=seconds)


@pytest.mark.parametrize("seconds", ["x", None, True])
def test_a_time_between_checkpoints_is_a_number(seconds: Any):
    with pytest.raises(TypeError, match="checkpoint_seconds must be a number"):
        check_seconds("checkpoint_seconds", seconds)


def test_a_store_has_a_name():
    with pytest.raises(ValueError, match="store must be the path"):
        ebm.MCMC(ebm.NUTS(model), 5, store="")
    with pytest.raises(ValueError, match="path must be the path"):
        ebm.MCMC.resume("", ebm.NUTS(model))
    for store in (5, b"run"):
        with pytest.raises(TypeError, match="store must be the path"):
            folder_of("store", store)


def test_a_store_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    mcmc = ebm.MCMC(ebm.NUTS(ebm.Banana()), 5, 5, store="run.zarr")
    monkeypatch.chdir("elsewhere")
    mcmc.run()
    monkeypatch.chdir(tmp_path)
    assert ebm.from_store("run.zarr").posterior.sizes["draw"] == 5
    again = ebm.MCMC.resume("run.zarr", ebm.NUTS(ebm.Banana()), num_samples=8)
    monkeypatch.chdir("elsewhere")
    again.run()
    assert ebm.from_store(tmp_path / "run.zarr").posterior.sizes["draw"] == 8


def test_the_folder_of_a_store_is_judged_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="file is a file"):
        ebm.MCMC(ebm.NUTS(model), 5, store=tmp_path / "file" / "x")
    for name in ("file", "empty"):
        with pytest.raises(FileExistsError, match="holds no run: give a new name"):
            ebm.MCMC(ebm.NUTS(model), 5, store=tmp_path / name).run(SIGMA, Y)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ebm.MCMC(ebm.NUTS(model), 5, store="~/x.zarr").store == tmp_path / "x.zarr"


def test_a_folder_without_a_run_is_no_store(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        ebm.from_store(tmp_path)


def test_a_model_that_cannot_start_leaves_no_folder(tmp_path: Path):
    def nowhere() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("wall", x * torch.nan)

    with pytest.raises(ValueError, match="finite"):
        ebm.MCMC(ebm.NUTS(nowhere), 5, store=tmp_path / "run.zarr").run()
    assert not (tmp_path / "run.zarr").exists()


def test_the_model_is_what_is_run(pair: tuple[ebm.MCMC, ebm.MCMC]):
    assert pair[1].record.num_draws == DRAWS
    assert pair[1].kernel.model is model
