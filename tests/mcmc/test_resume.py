"""A run that was stopped, by whatever, goes on as if nothing had happened, draw for draw."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import pyro_ebm as ebm
from pyro_ebm.mcmc import checkpoint
from pyro_ebm.mcmc.api.identity import density_differs, digest, values_differ
from pyro_ebm.mcmc.api.store import read_contents
from pyro_ebm.mcmc.api.stored_group import StoredGroup
from pyro_ebm.mcmc.api.zarr_array import ZarrArray
from tests.disk import Killed, events

from .stored_run import CHAINS, DRAWS, SIGMA, WARMUP, Y, begun, model, resumed

ROOT = Path(__file__).parent.parent.parent
ARRAYS = ((ZarrArray, "write"),)


@pytest.fixture(scope="module")
def whole() -> ebm.MCMC:
    """The run without an interruption, longer than the others by as many draws again."""
    return begun(2 * DRAWS, save_warmup=True)


def assert_is_part_of(mcmc: ebm.MCMC, whole: ebm.MCMC, num_samples: int = DRAWS) -> None:
    found, expected = mcmc.record, whole.record
    assert found.num_draws == num_samples
    assert torch.equal(found.positions, expected.positions[:, :num_samples])
    for name, value in expected.statistics.items():
        seen = found.statistics[name]
        assert torch.equal(seen, value[:, :num_samples].to(seen.dtype)), name
    latents = whole.get_samples(group_by_chain=True)
    for name, value in mcmc.get_samples(group_by_chain=True).items():
        assert torch.equal(value, latents[name][:, :num_samples]), name
    if found.warmup_positions is not None:
        assert expected.warmup_positions is not None
        assert torch.equal(found.warmup_positions, expected.warmup_positions)


@pytest.fixture(scope="module")
def num_events(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """How often a run does something to the disk: until its first state is there, and in all."""
    with pytest.MonkeyPatch.context() as patch:
        counter = events(patch, None, more=ARRAYS)
        next(counter)
        first: list[int] = []
        write = checkpoint.write

        def watched(path: Path, saved: checkpoint.Saved) -> None:
            write(path, saved)
            if path.name == "checkpoint.npz":
                first.append(next(counter))

        patch.setattr(checkpoint, "write", watched)
        path = tmp_path_factory.mktemp("counted") / "run.zarr"
        begun(store=path, checkpoint_seconds=0.0, save_warmup=True)
        return first[0], next(counter)


@pytest.mark.parametrize("part", range(3))
def test_a_run_that_dies_between_any_two_writes_goes_on(
    part: int,
    num_events: tuple[int, int],
    whole: ebm.MCMC,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    path = tmp_path / "run.zarr"
    first, last = num_events
    with monkeypatch.context() as patch:
        next(events(patch, random.randint(first + 1, last), more=ARRAYS))
        with pytest.raises(Killed):
            begun(store=path, checkpoint_seconds=0.0, save_warmup=True)
    with warnings.catch_warnings():
        # Between a state and the values of sites that belong to it.
        warnings.filterwarnings("ignore", message=".*have values of sites")
        there = ebm.from_store(path)
    if hasattr(there, "posterior"):
        done = there.posterior.sizes["draw"]
        expected = whole.get_samples(group_by_chain=True)["mu"][:, :done]
        assert np.array_equal(there.posterior["mu"].values, expected.numpy())
    assert_is_part_of(resumed(path), whole)


def killed_after(path: Path, command: str, seconds: float) -> None:
    """Run a process until a while after it has written a state, and kill it."""
    state = path / "checkpoint.npz"
    before = state.stat().st_mtime_ns if state.exists() else 0
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mcmc.stored_run", str(path), command], cwd=ROOT
    )
    while not (state.exists() and state.stat().st_mtime_ns != before) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_process_goes_on(whole: ebm.MCMC, tmp_path: Path):
    path = tmp_path / "run.zarr"
    killed_after(path, "begin", random.uniform(0.0, 0.5))
    killed_after(path, "resume", random.uniform(0.0, 0.2))
    assert_is_part_of(resumed(path), whole)


def test_a_finished_run_takes_more_draws(whole: ebm.MCMC, tmp_path: Path):
    path = tmp_path / "run.zarr"
    # Long enough for the gear of the whole run.
    begun(DRAWS - 10, store=path, save_warmup=True)
    for num_samples in (DRAWS, DRAWS, 2 * DRAWS):
        assert_is_part_of(resumed(path, num_samples), whole, num_samples)
    assert ebm.from_store(path).posterior.sizes["draw"] == 2 * DRAWS


KERNELS: dict[str, Callable[[], Any]] = {
    "hmc": lambda: ebm.HMC(model, num_steps=4, length_jitter=0.5),
    "dense": lambda: ebm.NUTS(model, full_mass=[("mu", "tau")]),
    "low-rank": lambda: ebm.NUTS(model, full_mass=ebm.LowRank(2), max_tree_depth=4),
    "no adaptation": lambda: ebm.NUTS(
        model, step_size=0.3, adapt_step_size=False, adapt_mass_matrix=False
    ),
}


def interrupting(at_stage: str, after: int) -> Callable:
    calls = 0

    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        nonlocal calls
        calls += stage == at_stage
        if calls >= after:
            raise KeyboardInterrupt

    return hook


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_goes_on_after_interrupts(kernel: str, tmp_path: Path):
    path, make = tmp_path / "run.zarr", KERNELS[kernel]
    with pytest.warns(UserWarning, match="Interrupted"):
        begun(20, make(), store=path, hook_fn=interrupting("warmup", 2))
    again = ebm.MCMC.resume(path, make())
    again.hook_fn = interrupting("sample", 2)
    with pytest.warns(UserWarning, match="Interrupted"):
        again.run(SIGMA, Y)
    assert_is_part_of(resumed(path, kernel=make()), begun(20, make()), 20)


ROUNDED = {"rtol": 1e-3, "atol": 1e-3}


@pytest.mark.parametrize(
    "name",
    ["zarr.json", "posterior/zarr.json", "posterior/mu/zarr.json", "warmup_posterior/zarr.json"],
)
def test_metadata_that_are_cut_off_are_written_anew(name: str, tmp_path: Path):
    """They follow from what the run knows of itself."""
    path = tmp_path / "run.zarr"
    begun(5, store=path, save_warmup=True)
    whole = (path / name).read_text()
    (path / name).write_text(whole[: len(whole) // 2])
    resumed(path, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = xr.open_zarr(path, group="posterior", consolidated=False)
    assert np.array_equal(found["mu"], ebm.from_store(path).posterior["mu"].values.T)
    assert json.loads((path / name).read_text())["zarr_format"] == 3


@pytest.mark.parametrize("stage", ["warmup", "sample"])
def test_an_interrupt_names_the_folder_that_goes_on(stage: str, tmp_path: Path):
    path = tmp_path / "run.zarr"
    with pytest.warns(UserWarning, match=rf"Interrupted.* {path}.*MCMC\.resume"):
        begun(20, store=path, hook_fn=interrupting(stage, 2))


def test_a_run_goes_on_in_smaller_batches_and_is_watched(tmp_path: Path):
    path, seen = tmp_path / "run.zarr", []
    expected = begun(12)
    with pytest.warns(UserWarning, match="Interrupted"):
        begun(12, store=path, hook_fn=interrupting("warmup", 2))

    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        seen.append(stage)

    options = {"hook_fn": hook, "checkpoint_seconds": 0.0, "disable_progbar": True}
    mcmc = ebm.MCMC.resume(path, ebm.NUTS(model), chain_batch_size=2, **options)
    mcmc.run(SIGMA, Y)
    assert "sample" in seen
    assert mcmc.checkpoint_seconds == 0.0
    assert mcmc.record.attrs["chain_batch_size"] == 2
    torch.testing.assert_close(mcmc.record.positions, expected.record.positions, **ROUNDED)


def test_a_number_of_draws_that_is_none_is_refused_before_the_run(tmp_path: Path):
    with pytest.raises((ValueError, TypeError), match="num_samples"):
        ebm.MCMC.resume(tmp_path, ebm.NUTS(model), num_samples=0)


def test_draws_count_before_their_sites_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Sites may need more memory than there is, and then nothing is caught any more."""
    path = tmp_path / "run.zarr"
    expected = begun(12)

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(StoredGroup, "_write_sites", killed)
        with pytest.raises(Killed):
            begun(12, store=path)
    assert read_contents(path).num_draws == 12
    assert torch.equal(resumed(path).record.positions, expected.record.positions)


def test_thinned_draws_of_some_sites_and_many_chains_go_on(tmp_path: Path):
    path = tmp_path / "run.zarr"
    options: dict[str, Any] = {"thinning": 2, "sites": ["theta"], "num_chains": 130}
    expected = begun(8, **options)
    with pytest.warns(UserWarning, match="Interrupted"):
        begun(8, **options, store=path, hook_fn=interrupting("sample", 1))
    found = resumed(path)
    assert torch.equal(found.record.positions, expected.record.positions)
    assert found.diagnose() == expected.diagnose()
    assert torch.equal(found.record.superchain_ids, expected.record.superchain_ids)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", [(os, "posix_fallocate"), (np, "savez")], ids=["draws", "state"])
def test_a_full_disk_loses_nothing(
    where: tuple[Any, str], whole: ebm.MCMC, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "run.zarr"

    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        if stage == "sample" and i >= DRAWS // 2:
            monkeypatch.setattr(*where, full_disk)

    with pytest.MonkeyPatch.context() as patch:
        # Room for a few draws at a time: the disk is asked for more again and again.
        patch.setattr("pyro_ebm.mcmc.api.zarr_array._CHUNK_BYTES", 256)
        with pytest.raises(OSError, match="No space") as caught:
            begun(store=path, checkpoint_seconds=0.0, save_warmup=True, hook_fn=hook)
        assert "MCMC.resume" in caught.value.__notes__[0]
        monkeypatch.undo()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*have values of sites")
            done = ebm.from_store(path).posterior.sizes["draw"]
        assert DRAWS // 4 < done < DRAWS
        assert_is_part_of(resumed(path), whole)


def test_a_disk_that_is_full_from_the_first_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        begun(store=tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize(
    "error", [RuntimeError("no more"), MemoryError()], ids=["raises", "memory"]
)
def test_an_error_in_the_middle_leaves_what_was_drawn(
    error: Exception, whole: ebm.MCMC, tmp_path: Path
):
    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        if stage == "sample" and i >= DRAWS // 2:
            raise error

    path = tmp_path / "run.zarr"
    with pytest.raises(type(error)):
        begun(store=path, save_warmup=True, hook_fn=hook)
    there = ebm.from_store(path)
    done = there.posterior.sizes["draw"]
    assert done >= DRAWS // 2
    assert there.posterior.attrs["complete"] == 0
    expected = whole.get_samples(group_by_chain=True)["z"][:, :done]
    assert np.array_equal(there.posterior["z"].values, expected.numpy())
    assert_is_part_of(resumed(path), whole)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of few draws, to be resumed wrongly."""
    path = tmp_path_factory.mktemp("short") / "run.zarr"
    begun(5, store=path)
    return path


def other_prior(sigma: torch.Tensor, y: torch.Tensor) -> None:
    with pyro.poutine.scale(scale=1.001):
        model(sigma, y)


def other_site(sigma: torch.Tensor, y: torch.Tensor) -> None:
    model(sigma, y)
    pyro.sample("more", dist.Normal(0.0, 1.0))


def other_function(sigma: torch.Tensor, y: torch.Tensor) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(sigma)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.deterministic("theta", mu + 1.001 * tau * z, event_dim=0)
        pyro.sample("y", dist.Normal(mu + tau * z, sigma), obs=y)


def other_derived(sigma: torch.Tensor, y: torch.Tensor) -> None:
    model(sigma, y)
    pyro.deterministic("one", torch.ones(2))


def other_support(sigma: torch.Tensor, y: torch.Tensor) -> None:
    with pyro.poutine.condition(data={}):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.Normal(0.0, 5.0))
        with pyro.plate("school", len(sigma)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mu + tau.exp() * z, sigma), obs=y)


WRONG: dict[str, tuple[Callable[[], Any], tuple, str]] = {
    "another density": (lambda: ebm.NUTS(other_prior), (SIGMA, Y), "the log density at a stored"),
    "another site": (lambda: ebm.NUTS(other_site), (SIGMA, Y), "site 'more' is new"),
    "another function": (
        lambda: ebm.NUTS(other_function),
        (SIGMA, Y),
        "site 'theta' has other val",
    ),
    "another derived": (lambda: ebm.NUTS(other_derived), (SIGMA, Y), "site 'one' is new"),
    "another support": (lambda: ebm.NUTS(other_support), (SIGMA, Y), "site 'tau' is another"),
    "other data": (lambda: ebm.NUTS(model), (SIGMA, Y + 1e-3), "data of site 'y' is another"),
    "another argument": (lambda: ebm.NUTS(model), (SIGMA * 1.001, Y), "argument 'sigma'"),
    "more data": (lambda: ebm.NUTS(model), (SIGMA.repeat(2), Y.repeat(2)), "site 'z' is another"),
    "another kernel": (lambda: ebm.HMC(model), (SIGMA, Y), "it was NUTS and is HMC"),
    "another setting": (
        lambda: ebm.NUTS(model, target_accept_prob=0.9),
        (SIGMA, Y),
        "kernel 'target_accept_prob' is another: it was 0.8 and is 0.9",
    ),
    "another metric": (lambda: ebm.NUTS(model, full_mass=True), (SIGMA, Y), "'full_mass'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_another_run_is_refused_by_name(wrong: str, short: Path):
    kernel, args, said = WRONG[wrong]
    before = {file: file.read_bytes() for file in short.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=said):
        ebm.MCMC.resume(short, kernel()).run(*args)
    assert before == {file: file.read_bytes() for file in short.rglob("*") if file.is_file()}


@pytest.mark.parametrize("value", [1.001, float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["density", "gradient"])
def test_another_density_at_one_stored_point_is_seen(part: str, value: float):
    before = torch.ones(3), torch.ones(2, 3)
    assert density_differs(before, (before[0] + 1e-6, before[1] - 1e-6)) is None
    now = before[0].clone(), before[1].clone()
    now[part == "gradient"][..., 1] = value
    assert part in str(density_differs(before, now))


def test_other_values_of_a_site_are_seen():
    old = torch.tensor([1.0, float("nan")])
    assert not values_differ({"x": old}, {"x": old * (1 + 1e-6)})
    for new in (old * 1.01, old.double(), old[:, None], torch.ones(2), None):
        now = {} if new is None else {"x": new}
        assert "'x'" in values_differ({"x": old}, now)[0]
    assert values_differ({"n": torch.tensor([1, 2])}, {"n": torch.tensor([1, 3])})


class Study:
    """An object as users make them; it leads back to itself."""

    def __init__(self, weight: float, name: str) -> None:
        self.weights, self.names, self.itself = torch.full((2,), weight), {name, "b"}, self


class Column:
    """What NumPy reads."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.full(2, self._value)


ARGUMENTS: dict[str, Callable[[float, str], Any]] = {
    "table": lambda number, name: pd.DataFrame({name: [number, 2.0], "y": ["u", "v"]}),
    "series": lambda number, name: pd.Series([number, 2.0], index=[name, "y"]),
    "object": Study,
    "objects": lambda number, name: np.array([Study(number, name), None]),
    "array": lambda number, name: {name: Column(number)},
}


@pytest.mark.parametrize("make", ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_are_told_apart_by_what_they_hold(make: Callable[[float, str], Any]):
    hashes = [digest(make(*given)) for given in ((1.0, "a"), (1.5, "a"), (1.0, "c"))]
    assert hashes[0] == digest(make(1.0, "a"))
    assert len(set(hashes)) == 3


def test_a_site_that_cannot_be_evaluated_loses_nothing_before(tmp_path: Path):
    fails = False

    def failing() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        if fails and not torch.is_grad_enabled():
            raise RuntimeError("not to be had")
        pyro.deterministic("twice", 2 * x)

    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        nonlocal fails
        fails = stage == "sample" and i >= 10

    mcmc = ebm.MCMC(ebm.NUTS(failing), 100, 20, num_chains=2, hook_fn=hook, store=tmp_path / "r")
    with pytest.raises(RuntimeError, match="not to be had") as caught:
        mcmc.run()
    assert "from_store" in caught.value.__notes__[0]
    assert "in unconstrained coordinates only" in caught.value.__notes__[0]
    with pytest.warns(UserWarning, match="have values of sites"):
        there = ebm.from_store(tmp_path / "r")
    assert there.unconstrained_posterior.sizes["draw"] >= 10
    assert there.sample_stats.sizes["draw"] == there.unconstrained_posterior.sizes["draw"]
    fails = False
    again = ebm.MCMC.resume(tmp_path / "r", ebm.NUTS(failing))
    again.run()
    done = mcmc.record.num_draws
    assert torch.equal(again.record.positions[:, :done], mcmc.record.positions)
    filled = ebm.from_store(tmp_path / "r").posterior
    assert np.array_equal(filled["twice"].values, 2 * filled["x"].values)
    assert np.array_equal(filled["x"].values, again.record.positions[..., 0].numpy())


def test_an_energy_that_raises_for_good_loses_no_draw(tmp_path: Path):
    path, fails = tmp_path / "run.zarr", False

    def failing() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        if fails:
            raise RuntimeError("not to be had")
        pyro.deterministic("twice", 2 * x)

    def run(hook: Any = None, **options: Any) -> ebm.MCMC:
        pyro.set_rng_seed(0)
        mcmc = ebm.MCMC(ebm.NUTS(failing), 40, 20, num_chains=2, hook_fn=hook, **options)
        mcmc.run()
        return mcmc

    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        nonlocal fails
        if stage == "sample" and i >= 20:
            fails = True
            raise RuntimeError("the machine is gone")

    expected = run().to_arviz().posterior
    with pytest.raises(RuntimeError, match="the machine is gone"):
        run(hook, store=path, save_warmup=True)
    with pytest.warns(UserWarning, match="have values of sites"):
        there = ebm.from_store(path)
    done = there.unconstrained_posterior.sizes["draw"]
    assert done >= 20
    seen = there.unconstrained_posterior["x"].values
    assert np.array_equal(seen, expected["x"].values[:, :done])
    fails = False
    again = ebm.MCMC.resume(path, ebm.NUTS(failing))
    again.run()
    for name in ("x", "twice"):
        assert np.array_equal(ebm.from_store(path).posterior[name].values, expected[name].values)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("state.position", lambda value: value[:, :-1]),
        ("state.chain.version", lambda value: value[:-1]),
        ("state.settings.metric.factor", lambda value: value[:, :-1]),
        ("state.settings.metric.factor", lambda value: value[:0]),
        ("kept", lambda value: -value),
        ("kept", lambda value: value[:-1]),
    ],
)
def test_a_state_of_other_sizes_is_refused(
    name: str, change: Callable, short: Path, tmp_path: Path
):
    path = tmp_path / "run.zarr"
    shutil.copytree(short, path)
    state = checkpoint.read(path / "checkpoint.npz")
    changed = {**state.arrays, name: change(state.arrays[name])}
    checkpoint.write(path / "checkpoint.npz", state._replace(arrays=changed))
    with pytest.raises(ValueError, match=name):
        resumed(path, 10)


def test_fewer_draws_than_there_are_is_refused(short: Path):
    with pytest.raises(ValueError, match="at least the 5 draws"):
        ebm.MCMC.resume(short, ebm.NUTS(model), num_samples=4)


def test_a_run_is_never_made_shorter(tmp_path: Path):
    path = tmp_path / "run.zarr"
    begun(5, store=path)
    default = ebm.MCMC.resume(path, ebm.NUTS(model))
    explicit = ebm.MCMC.resume(path, ebm.NUTS(model), num_samples=6)
    resumed(path, 12)
    with pytest.raises(ValueError, match="at least the 12 draws"):
        explicit.run(SIGMA, Y)
    default.run(SIGMA, Y)
    assert default.num_samples == 12
    assert ebm.from_store(path).posterior.sizes["draw"] == 12


def test_a_run_that_ends_earlier_keeps_its_plan(whole: ebm.MCMC, tmp_path: Path):
    path = tmp_path / "run.zarr"
    with pytest.warns(UserWarning, match="Interrupted"):
        begun(store=path, hook_fn=interrupting("sample", 1))
    assert resumed(path, DRAWS // 2).record.num_draws == DRAWS // 2
    assert ebm.from_store(path).posterior.attrs["complete"] == 0
    assert_is_part_of(resumed(path), whole)


def test_a_run_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        ebm.MCMC.resume(tmp_path / "run.zarr", ebm.NUTS(model))


def test_a_run_is_written_by_one_process_at_a_time(tmp_path: Path):
    def hook(kernel: Any, samples: torch.Tensor, stage: str, i: int) -> None:
        resumed(tmp_path / "run.zarr")

    with pytest.raises(RuntimeError, match="another process"):
        begun(5, store=tmp_path / "run.zarr", hook_fn=hook)


@pytest.mark.parametrize("name", ["checkpoint.npz", "run.npz", "posterior/mu/c/0/0", "mu"])
def test_a_file_that_is_cut_off_is_told(name: str, tmp_path: Path):
    path = tmp_path / "run.zarr"
    begun(5, store=path)
    file = path / name
    if name == "mu":
        (path / "posterior/mu/c/0/0").unlink()
    else:
        # Of fast chains more may be there than is read.
        os.truncate(file, file.stat().st_size // 8)
    for read in (ebm.from_store, resumed):
        with pytest.raises(ValueError, match=r"cut off|missing"):
            read(path)


def test_another_version_of_torch_is_told(short: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "__version__", "0.0")
    with pytest.warns(UserWarning, match="torch_version was .* and is 0.0"):
        resumed(short)


def test_a_potential_is_resumed_without_its_starts(tmp_path: Path):
    def potential(params: dict[str, torch.Tensor]) -> torch.Tensor:
        return 0.5 * (params["a"].square().sum() + params["b"].square())

    def run(num_samples: int, **options: Any) -> ebm.MCMC:
        starts = {"a": torch.zeros(3, 2), "b": torch.zeros(3)}
        pyro.set_rng_seed(0)
        kernel = ebm.NUTS(potential_fn=potential)
        mcmc = ebm.MCMC(kernel, num_samples, 20, starts, 3, **options)
        mcmc.run()
        return mcmc

    run(5, store=tmp_path / "run.zarr")
    kernel = ebm.NUTS(potential_fn=potential)
    found = ebm.MCMC.resume(tmp_path / "run.zarr", kernel, num_samples=15)
    found.run()
    assert torch.equal(found.record.positions, run(15).record.positions)


def test_how_a_step_is_run_is_kept_from_the_beginning(short: Path):
    expected = ebm.from_store(short).posterior["mu"].values
    for jit_compile in (False, "auto"):
        found = resumed(short, kernel=ebm.NUTS(model, jit_compile=jit_compile))
        assert np.array_equal(found.get_samples(group_by_chain=True)["mu"].numpy(), expected)


def test_constants_of_the_run_are_those_that_it_was_begun_with(short: Path):
    found = ebm.MCMC.resume(short, ebm.NUTS(model))
    assert (found.num_samples, found.warmup_steps, found.num_chains) == (5, WARMUP, CHAINS)
