"""Runs of one model become one; runs of different ones are refused by what is different."""

import arviz as az
import numpy as np
import pyro
import pytest
import torch
from numpy.testing import assert_array_equal

import pyro_ebm as ebm
from pyro_ebm.__main__ import main

from .conftest import written


def merged(tmp_path, *paths):
    out = tmp_path / "merged.nc"
    status = main(["merge", *map(str, paths), "-o", str(out)])
    return status, out


def test_chains_follow_one_another(files, tmp_path, capsys):
    status, out = merged(tmp_path, files["first"], files["second"])
    assert status == 0
    assert "16 chains of 60 draws" in capsys.readouterr().out
    data, parts = az.from_netcdf(str(out)), [az.from_netcdf(files[n]) for n in ("first", "second")]
    for group in ("posterior", "sample_stats", "unconstrained_posterior", "log_likelihood"):
        for name in parts[0][group].data_vars:
            whole = np.concatenate([part[group][name].values for part in parts])
            assert_array_equal(data[group][name].values, whole)
    assert data.posterior["chain"].values.tolist() == list(range(16))
    assert data.posterior.attrs["num_chains"] == 16
    assert_array_equal(data.observed_data["y"].values, parts[0].observed_data["y"].values)
    assert main(["report", str(out)]) == 0


def test_a_folder_of_shards_is_merged_like_a_file(files, tmp_path):
    status, out = merged(tmp_path, files["store"], files["second"])
    assert status == 0
    assert az.from_netcdf(str(out)).posterior.sizes["chain"] == 16


def test_the_same_draws_twice_are_refused(files, tmp_path, capsys):
    assert merged(tmp_path, files["first"], files["store"])[0] == 2
    assert "hold the same draws: they would count double" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"z": (2, 60)}, "it has no variable 'square'"),
        ({"x": (2, 60, 3), "square": (2, 60)}, "its 'x' is of shape"),
        ({"x": (2, 60), "square": (2, 60), "more": (2, 60)}, "it has a variable 'more' too"),
        ({"x": (2, 50), "square": (2, 50)}, "has chains of 50 draws and"),
    ],
    ids=["names", "shape", "more", "length"],
)
def test_a_run_of_another_model_is_refused_by_name(files, tmp_path, capsys, other, why):
    posterior = {name: np.random.default_rng(0).normal(size=shape) for name, shape in other.items()}
    data = ebm.inference_data.to_inference_data({"posterior": posterior})
    path = written(data, tmp_path / "other.nc")
    assert merged(tmp_path, files["first"], path)[0] == 2
    assert why in capsys.readouterr().err


def test_a_run_on_other_data_is_refused_by_name(files, tmp_path, capsys):
    data = az.from_netcdf(files["second"]).load()
    data.observed_data["y"] = data.observed_data["y"] + 1.0
    path = written(data, tmp_path / "other.nc")
    assert merged(tmp_path, files["first"], path)[0] == 2
    assert "its data 'y' are others" in capsys.readouterr().err


def test_an_estimate_or_one_run_alone_is_refused(files, tmp_path, capsys):
    assert merged(tmp_path, files["first"], files["estimate"])[0] == 2
    assert "holds no chains of a run of MCMC" in capsys.readouterr().err
    assert merged(tmp_path, files["first"])[0] == 2
    assert "expected two runs or more, got 1" in capsys.readouterr().err


def test_nothing_is_written_over(files, tmp_path, capsys):
    out = tmp_path / "merged.nc"
    out.write_text("kept")
    assert merged(tmp_path, files["first"], files["second"])[0] == 2
    assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "kept"


def test_superchains_stay_apart(tmp_path):
    def run(name):
        ids = np.repeat(np.arange(2), 2)[:, None].repeat(5, 1)
        rng = np.random.default_rng(int(name))
        groups = {
            "posterior": {"x": rng.normal(size=(4, 5))},
            "sample_stats": {"superchain": ids},
        }
        return written(ebm.inference_data.to_inference_data(groups), tmp_path / f"{name}.nc")

    _, out = merged(tmp_path, run("1"), run("2"))
    ids = az.from_netcdf(str(out)).sample_stats["superchain"].values[:, 0]
    assert ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_runs_with_other_warm_ups_are_judged_as_the_shorter(files, tmp_path, capsys):
    data = az.from_netcdf(files["second"]).load()
    data.posterior.attrs["warmup_steps"] = 10
    status, out = merged(tmp_path, files["first"], written(data, tmp_path / "short.nc"))
    assert status == 0
    assert az.from_netcdf(str(out)).posterior.attrs["warmup_steps"] == 10
    assert main(["report", str(out)]) == 0


def test_chains_that_a_merged_run_holds_already_are_refused(files, tmp_path, capsys):
    _, both = merged(tmp_path, files["first"], files["second"])
    assert main(["merge", str(both), str(files["second"]), "-o", str(tmp_path / "again.nc")]) == 2
    assert "hold the same draws: they would count double" in capsys.readouterr().err


def cold(tmp_path, seed):
    """A lattice of which few sites ever turn."""
    pyro.set_rng_seed(seed)
    lattice = ebm.EnergyDistribution(ebm.Ising.lattice((16, 16)), temperature=1.2)
    starts = {"x": torch.ones(4, 16, 16)}
    mcmc = ebm.MCMC(ebm.Gibbs(lattice), 10, 5, starts, disable_progbar=True)
    mcmc.run()
    return written(mcmc.to_arviz(), tmp_path / f"cold-{seed}.nc")


def test_cold_runs_that_begin_alike_are_merged(tmp_path):
    draws = [az.from_netcdf(cold(tmp_path, seed)).posterior["x"].values for seed in (1, 2)]
    assert not np.array_equal(*draws)
    assert merged(tmp_path, cold(tmp_path, 1), cold(tmp_path, 2))[0] == 0


def test_chains_that_stand_still_are_the_same_only_with_one_seed(tmp_path):
    def frozen(name, seed):
        groups = {"posterior": {"x": np.ones((2, 5))}}
        data = ebm.inference_data.to_inference_data(groups, attrs={"seed": seed})
        return written(data, tmp_path / f"{name}.nc")

    assert merged(tmp_path, frozen("a", 1), frozen("b", 1))[0] == 2
    assert merged(tmp_path, frozen("a", 1), frozen("c", 2))[0] == 0


def of_well(tmp_path, temperature, seed=0, store=None):
    pyro.set_rng_seed(seed)
    well = ebm.EnergyDistribution(ebm.DoubleWell(2), temperature=temperature)
    mcmc = ebm.MCMC(ebm.NUTS(well), 5, 5, disable_progbar=True, store=store)
    mcmc.run()
    return written(mcmc.to_arviz(), tmp_path / f"well-{temperature}-{seed}.nc")


def test_runs_of_other_distributions_are_refused_by_their_densities(tmp_path, capsys):
    one, other = of_well(tmp_path, 1.0), of_well(tmp_path, 5.0)
    assert merged(tmp_path, one, other)[0] == 2
    assert "its log densities at fixed points are others" in capsys.readouterr().err
    store = tmp_path / "run.zarr"
    of_well(tmp_path, 5.0, seed=1, store=store)
    assert merged(tmp_path, one, store)[0] == 2
    assert merged(tmp_path, other, store)[0] == 0


def test_draws_that_are_not_finite_are_told(files, tmp_path, capsys):
    data = az.from_netcdf(files["second"]).load()
    data.posterior["square"].values[1, 2:4] = float("nan")
    bad = written(data, tmp_path / "bad.nc")
    assert merged(tmp_path, files["first"], bad)[0] == 0
    said = capsys.readouterr().out
    count = data.posterior.sizes["chain"] * 60
    assert f"in {bad} NaN or infinity stands for square in 2 of {count} draws" in said


def test_a_run_that_does_not_say_what_it_drew_from_is_told(files, tmp_path, capsys):
    data = az.from_netcdf(files["second"]).load()
    del data.posterior.attrs["distribution"]
    silent = written(data, tmp_path / "silent.nc")
    status, out = merged(tmp_path, files["first"], silent)
    assert status == 0
    assert f"Not checked: whether {silent} drew from the same density" in capsys.readouterr().out
    assert "distribution" not in az.from_netcdf(str(out)).posterior.attrs


def of_groups(tmp_path, seed, prior=50, points=3, labels=(0, 1, 2)):
    """A run of three numbers, with draws from its prior and a log likelihood of some points."""
    draws = np.random.default_rng(seed).normal(size=(2, 5, 3))
    groups = {
        "posterior": {"x": draws},
        "prior": {"x": np.zeros((1, prior, 3))},
        "log_likelihood": {"y": np.zeros((2, 5, points))},
    }
    data = ebm.inference_data.to_inference_data(groups, coords={"x_dim_0": labels})
    return written(data, tmp_path / f"{seed}.nc")


@pytest.mark.parametrize(("prior", "kept"), [(50, True), (60, False)])
def test_priors_of_other_lengths_are_left_out(tmp_path, prior, kept):
    status, out = merged(tmp_path, of_groups(tmp_path, 1), of_groups(tmp_path, 2, prior))
    assert status == 0
    groups = ebm.inference_data.datasets_of(az.from_netcdf(str(out)))
    assert groups["posterior"].sizes["chain"] == 4
    assert ("prior" in groups) == kept


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"points": 4}, "its 'y' in log_likelihood is of shape"),
        ({"labels": (7, 8, 9)}, "its labels of the axis 'x_dim_0' in posterior are others"),
    ],
    ids=["shape", "labels"],
)
def test_groups_that_do_not_fit_are_refused(tmp_path, capsys, change, why):
    assert merged(tmp_path, of_groups(tmp_path, 1), of_groups(tmp_path, 2, **change))[0] == 2
    assert why in capsys.readouterr().err
