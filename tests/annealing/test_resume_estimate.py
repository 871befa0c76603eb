"""An estimate that was stopped, by whatever, goes on as if nothing had happened."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.annealing.moves import Mover
from pyro_ebm.mcmc import checkpoint
from tests.disk import Killed, events

from .stored_estimate import METHODS, SIGMA, Y, base, begun, model, resumed

ROOT = Path(__file__).parent.parent.parent


@cache
def whole(name: str) -> ebm.LogZ:
    """The estimate without an interruption."""
    return begun(name)


def assert_same(found: ebm.LogZ, expected: ebm.LogZ) -> None:
    assert found.log_z == expected.log_z
    assert found.std_error == expected.std_error
    assert (found.reliable, found.why) == (expected.reliable, expected.why)
    assert found.positions is not None
    assert expected.positions is not None
    assert found.log_weights is not None
    assert expected.log_weights is not None
    assert torch.equal(found.positions, expected.positions)
    assert torch.equal(found.log_weights, expected.log_weights)
    assert found.details == expected.details
    assert found.path == expected.path
    assert (found.backward is None) == (expected.backward is None)
    if found.backward is not None and expected.backward is not None:
        assert torch.equal(found.backward.works, expected.backward.works)
        assert found.backward.bennett == expected.backward.bennett


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "ais" else [pytest.mark.slow]) for name in METHODS],
)
def test_a_run_that_dies_between_any_two_writes_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "logz"
    with monkeypatch.context() as patch:
        counter = events(patch, None)
        next(counter)
        assert_same(begun(name, store=tmp_path / "counted", checkpoint_seconds=0.0), whole(name))
        in_all = next(counter)
    # By then the first states are there, and the last is not.
    with monkeypatch.context() as patch:
        next(events(patch, random.randint(16, in_all - 1)))
        with pytest.raises(Killed):
            begun(name, store=path, checkpoint_seconds=0.0)
    assert ebm.from_store(path).attrs["complete"] == 0
    assert_same(resumed(path, name), whole(name))
    assert ebm.from_store(path).attrs["complete"] == 1


def killed_after(path: Path, command: str, seconds: float) -> None:
    """Run a process until a while after it has written a state, and kill it."""

    def written() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in path.glob("stages/*.npz")}

    before = written()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.annealing.stored_estimate", str(path), *command.split()],
        cwd=ROOT,
    )
    while written() == before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("name", ["ais", pytest.param("smc", marks=pytest.mark.slow)])
def test_a_killed_process_goes_on(name: str, tmp_path: Path):
    path = tmp_path / "logz"
    killed_after(path, f"{name} begin", random.uniform(0.0, 1.5))
    killed_after(path, f"{name} resume", random.uniform(0.0, 0.3))
    assert_same(resumed(path, name), whole(name))


def at_move(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Do something before the move of this number."""
    move, count = Mover.move, 0

    def watched(self: Mover, *args: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            act()
        return move(self, *args)

    monkeypatch.setattr(Mover, "move", watched)


@cache
def moves_of(name: str, **options: Any) -> int:
    """How many moves a run makes."""
    count = 0
    move = Mover.move

    def watched(self: Mover, *args: Any) -> Any:
        nonlocal count
        count += 1
        return move(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mover, "move", watched)
        begun(name, **options)
    return count


def stop() -> None:
    raise KeyboardInterrupt


def fail() -> None:
    raise RuntimeError("the energy is not to be had")


def run_out() -> None:
    raise MemoryError


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "name",
    ["ais", *(pytest.param(name, marks=pytest.mark.slow) for name in ("smc", "integration"))],
)
def test_an_interrupted_run_goes_on(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, number = tmp_path / "logz", random.randint(1, moves_of(name))
    with monkeypatch.context() as patch:
        at_move(patch, number, stop)
        partial = begun(name, store=path)
    assert not partial.reliable
    assert "interrupted" in partial.why.lower()
    if np.isfinite(partial.log_z):
        there = ebm.from_store(path).annealing.attrs
        assert (there["complete"], there["log_z"]) == (0, partial.log_z)
    assert_same(resumed(path, name), whole(name))


@pytest.mark.parametrize("act", [fail, run_out])
def test_an_error_in_the_middle_leaves_what_was_estimated(
    act: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    path, number = tmp_path / "logz", moves_of("ais")
    with monkeypatch.context() as patch:
        at_move(patch, number, act)
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            begun("ais", store=path)
    assert "from_store" in caught.value.__notes__[0]
    assert "AIS.resume" in caught.value.__notes__[0]
    there = ebm.from_store(path)
    assert there.annealing.attrs["complete"] == 0
    # By the last move the last round is over.
    assert there.annealing.attrs["log_z"] == whole("ais").log_z
    assert there.posterior.sizes["draw"] > 10
    assert_same(resumed(path, "ais"), whole("ais"))


def test_batches_that_are_finished_can_be_read_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options: dict[str, Any] = {"num_particles": None, "schedule": ebm.Linear(4), "reverse": False}
    expected, path = begun("ais", **options), tmp_path / "logz"
    assert expected.num_particles >= 2 * 1024
    with monkeypatch.context() as patch:
        at_move(patch, moves_of("ais", **options) - 1, fail)
        with pytest.raises(RuntimeError):
            begun("ais", **options, store=path)
    there = ebm.from_store(path).annealing
    assert there.attrs["num_particles"] == expected.num_particles - 1024
    assert "only the rounds and batches finished" in there.attrs["why"]
    assert_same(resumed(path, "ais"), expected)


def test_a_density_that_is_nan_everywhere_leaves_an_answer(tmp_path: Path):
    def energy(x: torch.Tensor) -> torch.Tensor:
        return x.square() * torch.where(x.abs() > 100.0, 1.0, torch.nan)

    nowhere = ebm.EnergyDistribution(energy, ())
    with pytest.raises(ValueError, match="NaN"):
        ebm.AIS(nowhere, base=dist.Normal(0.0, 1.0), store=tmp_path / "logz").run()
    assert not (tmp_path / "logz").exists()


def test_an_estimate_of_nothing_is_an_answer_too(tmp_path: Path):
    def energy(x: torch.Tensor) -> torch.Tensor:
        return x.square() + torch.where((x - 1e3).abs() < 1.0, 0.0, torch.inf)

    far = ebm.EnergyDistribution(energy, ())
    before = ebm.SMC(far, base=dist.Normal(0.0, 1.0), store=tmp_path / "logz").run()
    assert before.log_z == -np.inf
    there = ebm.from_store(tmp_path / "logz")
    assert (there.attrs["complete"], there.attrs["log_z"]) == (1, -np.inf)
    again = ebm.SMC.resume(tmp_path / "logz", far, base=dist.Normal(0.0, 1.0)).run()
    assert (again.log_z, again.why) == (before.log_z, before.why)


@pytest.mark.parametrize("part", range(2))
def test_a_full_disk_loses_nothing(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, number = tmp_path / "logz", random.randint(10, moves_of("ais"))
    at_move(monkeypatch, number, lambda: monkeypatch.setattr(np, "savez", full_disk))
    with pytest.raises(OSError, match="No space") as caught:
        begun("ais", store=path, checkpoint_seconds=0.0)
    assert "AIS.resume" in caught.value.__notes__[0]
    monkeypatch.undo()
    assert ebm.from_store(path).attrs["complete"] == 0
    assert_same(resumed(path, "ais"), whole("ais"))


def test_a_disk_that_is_full_from_the_first_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        begun("ais", store=tmp_path / "logz")
    assert not (tmp_path / "logz").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    path = tmp_path_factory.mktemp("finished") / "logz"
    begun("ais", store=path)
    return path


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted in its last round."""
    path = tmp_path_factory.mktemp("half") / "logz"
    with pytest.MonkeyPatch.context() as patch:
        at_move(patch, moves_of("ais") // 2, stop)
        begun("ais", store=path)
    return path


def test_a_finished_run_gives_its_estimate_at_once(finished: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pyro_ebm.annealing.along_path.start", fail)
    found, expected = resumed(finished, "ais"), whole("ais")
    assert_same(found, expected)
    seen, wanted = found.draws(200), expected.draws(200)
    assert {name: value.shape for name, value in seen.items()} == {
        name: value.shape for name, value in wanted.items()
    }
    assert found.bounds() == expected.bounds()


def test_a_finished_estimate_is_read_without_the_model(finished: Path):
    there, expected = ebm.from_store(finished), whole("ais").to_arviz()
    for group in ("posterior", "unconstrained_posterior", "observed_data", "annealing"):
        ours, theirs = getattr(there, group), getattr(expected, group)
        assert set(ours.data_vars) == set(theirs.data_vars)
        for name in theirs.data_vars:
            assert ours[name].dims == theirs[name].dims
            assert np.array_equal(ours[name].values, theirs[name].values, equal_nan=True)
    attributes = dict(expected.annealing.attrs)
    for name in ("log_z", "std_error", "why", "seed", "method", "khat", "upper", "complete"):
        assert there.annealing.attrs[name] == attributes[name]


def other_prior(sigma: torch.Tensor, y: torch.Tensor) -> None:
    with pyro.poutine.scale(scale=1.001):
        model(sigma, y)


def other_site(sigma: torch.Tensor, y: torch.Tensor) -> None:
    model(sigma, y)
    pyro.sample("more", dist.Normal(0.0, 1.0))


WRONG: dict[str, tuple[Callable, dict[str, Any], tuple, str]] = {
    "another density": (other_prior, {}, (SIGMA, Y), "the log density at a stored"),
    "another site": (other_site, {}, (SIGMA, Y), "site 'more' is new"),
    "other data": (model, {}, (SIGMA, Y + 1e-3), "data of site 'y' is another"),
    "another argument": (model, {}, (SIGMA * 1.001, Y), "argument 'sigma'"),
    "more particles": (
        model,
        {"num_particles": 128},
        (SIGMA, Y),
        "option 'num_particles' is another: it was 64 and is 128",
    ),
    "another schedule": (model, {"schedule": ebm.Linear(7)}, (SIGMA, Y), "'schedule'"),
    "other moves": (model, {"moves": ebm.NUTSMoves()}, (SIGMA, Y), "option 'moves'"),
    "another kind of base": (model, {"base": "auto"}, (SIGMA, Y), "option 'base'"),
    "no check": (model, {"reverse": False}, (SIGMA, Y), "option 'reverse'"),
    "other draws": (
        model,
        {"reverse": {"mu": torch.zeros(3), "tau": torch.ones(3)}},
        (SIGMA, Y),
        "option 'reverse'",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_another_run_is_refused_by_name(wrong: str, half: Path):
    other, options, args, said = WRONG[wrong]
    before = {file: file.read_bytes() for file in half.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=said):
        ebm.AIS.resume(half, other, **{"base": base(), **options}).run(*args)
    assert before == {file: file.read_bytes() for file in half.rglob("*") if file.is_file()}


def test_another_base_is_refused_by_name(half: Path, tmp_path: Path):
    shutil.copytree(half, tmp_path / "logz")
    wider = dist.Normal(torch.zeros(2), 1.6).to_event(1)
    with pytest.raises(ValueError, match="base= is another"):
        resumed(tmp_path / "logz", "ais", base=wider)


def test_an_object_that_no_folder_holds_is_asked_for(half: Path):
    with pytest.raises(ValueError, match=r"expected base=, which was a Independent"):
        ebm.AIS.resume(half, model)


def test_given_draws_are_compared_by_what_they_hold(tmp_path: Path):
    path, draws = tmp_path / "logz", {"mu": torch.randn(40), "tau": torch.rand(40) + 0.1}
    expected = begun("smc", reverse=draws)
    begun("smc", reverse=ebm.ExactDraws(draws), store=path)
    with pytest.raises(ValueError, match="option 'reverse'"):
        resumed(path, "smc", reverse={**draws, "mu": draws["mu"] + 1e-3})
    found = resumed(path, "smc", reverse=ebm.ExactDraws({k: v.clone() for k, v in draws.items()}))
    assert found.log_z == expected.log_z
    assert found.backward is not None
    assert found.backward.exact


def test_a_run_of_another_method_is_refused_by_name(half: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"a run of AIS: go on with AIS\.resume"):
        ebm.SMC.resume(half, model, base=base())
    with pytest.raises(FileNotFoundError, match="holds no run"):
        ebm.MCMC.resume(half, ebm.NUTS(model))
    mcmc = ebm.MCMC(ebm.NUTS(model), 5, 5, num_chains=2, store=tmp_path / "run.zarr")
    mcmc.run(SIGMA, Y)
    for path in (tmp_path / "run.zarr", tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match="holds no estimate that AIS"):
            ebm.AIS.resume(path, model)


@pytest.mark.parametrize("file", ["run.npz", "estimate.npz"])
def test_a_file_that_is_cut_off_is_told(file: str, finished: Path, tmp_path: Path):
    path = tmp_path / "logz"
    shutil.copytree(finished, path)
    os.truncate(path / file, (path / file).stat().st_size // 3)
    with pytest.raises(ValueError, match="cut off"):
        resumed(path, "ais")
    if file == "estimate.npz":
        with pytest.raises(ValueError, match="cut off"):
            ebm.from_store(path)


def test_a_stage_that_is_cut_off_can_be_made_anew(half: Path, tmp_path: Path):
    path = tmp_path / "logz"
    shutil.copytree(half, path)
    file = path / "stages/0001.npz"
    os.truncate(file, file.stat().st_size // 3)
    with pytest.raises(ValueError, match=r"0001\.npz is cut off.*Delete it"):
        resumed(path, "ais")
    file.unlink()
    assert_same(resumed(path, "ais"), whole("ais"))


@pytest.mark.parametrize("change", ["stage", "more", "fewer"])
def test_a_stage_of_another_version_is_refused(change: str, half: Path, tmp_path: Path):
    path = tmp_path / "logz"
    shutil.copytree(half, path)
    file = path / "stages/0002.npz"
    arrays, about = checkpoint.read(file)
    if change == "stage":
        about = {"stage": "something else"}
    elif change == "more":
        arrays["state.more"] = np.zeros(1)
    else:
        del arrays["state.log_z"]
    checkpoint.write(file, checkpoint.Saved(arrays, about))
    with pytest.raises(ValueError, match="another version of pyro_ebm"):
        resumed(path, "ais")


def test_nothing_is_written_over(finished: Path):
    with pytest.raises(FileExistsError, match=r"AIS\.resume\(path, model\)"):
        begun("ais", store=finished)


def test_an_estimate_is_written_by_one_process_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "logz"
    at_move(monkeypatch, 20, lambda: (resumed(path, "ais"), None)[1])
    with pytest.raises(RuntimeError, match="another process"):
        begun("ais", store=path, checkpoint_seconds=0.0)


def test_another_version_of_torch_is_told(finished: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "__version__", "0.0")
    with pytest.warns(UserWarning, match="torch_version was .* and is 0.0"):
        resumed(finished, "ais")


def test_an_energy_and_a_searched_base_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    well = ebm.EnergyDistribution(ebm.DoubleWell(2), temperature=0.3)

    def run(**options: Any) -> ebm.LogZ:
        pyro.set_rng_seed(0)
        return ebm.AIS(well, num_particles=64, **options).run()

    path = tmp_path / "logz"
    with monkeypatch.context() as patch:
        at_move(patch, 30, stop)
        run(store=path)
    assert_same(ebm.AIS.resume(path, well).run(), run())
    colder = ebm.EnergyDistribution(ebm.DoubleWell(2), temperature=0.29)
    with pytest.raises(ValueError, match="log density at a stored point"):
        ebm.AIS.resume(path, colder).run()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"store": 3}, TypeError),
        ({"store": ""}, ValueError),
        ({"checkpoint_seconds": -1.0}, ValueError),
        ({"checkpoint_seconds": "often"}, TypeError),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], error: type[Exception]):
    with pytest.raises(error, match=next(iter(options))):
        ebm.AIS(model, **options)


OVER_STATES: dict[str, tuple[Any, dict[str, Any]]] = {
    "ais": (ebm.AIS, {"num_particles": 64}),
    "smc": (ebm.SMC, {"num_particles": 64}),
    "tempering": (ebm.ParallelTempering, {"num_ladders": 4, "num_sweeps": 16, "num_rounds": 2}),
}


@pytest.mark.parametrize(
    ("name", "in_c"),
    [
        *((name, True) for name in OVER_STATES),
        pytest.param("smc", False, marks=pytest.mark.slow),
    ],
)
def test_an_estimate_over_states_goes_on_draw_for_draw(
    name: str, in_c: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not in_c:
        monkeypatch.setattr("pyro_ebm.annealing.path.tempered_gibbs", lambda *_: None)
    energy, path = ebm.Ising.lattice((2, 3), coupling=0.4, field=0.1), tmp_path / "logz"
    method, settings = OVER_STATES[name]

    def run(**options: Any) -> ebm.LogZ:
        pyro.set_rng_seed(3)
        moves = ebm.DiscreteMoves(2)
        return method(energy, moves=moves, disable_progbar=True, **settings, **options).run()

    expected = run()
    with monkeypatch.context() as patch:
        counter = events(patch, None)
        next(counter)
        assert_same(run(store=tmp_path / "counted", checkpoint_seconds=0.0), expected)
        in_all = next(counter)
    with monkeypatch.context() as patch:
        next(events(patch, random.randint(16, in_all - 1)))
        with pytest.raises(Killed):
            run(store=path, checkpoint_seconds=0.0)
    assert_same(method.resume(path, energy).run(), expected)
