"""The page on a run says what the run says, and stands by itself."""

import os
import shutil

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import pyro_ebm as ebm
from pyro_ebm.__main__ import main
from pyro_ebm.mcmc.api.diagnose_data import diagnose_data

from ..mcmc.sharded_run import begun
from .conftest import written
from .pages import Page


def page_of(path, tmp_path):
    out = tmp_path / "page.html"
    assert main(["report", str(path), "-o", str(out)]) == 0
    return Page(out.read_text(encoding="utf-8"))


def noisy_spins(y):
    """A lattice whose sites turn together, and noise of a scale that is learned."""
    lattice = ebm.EnergyDistribution(ebm.Ising.lattice((4, 4)), temperature=1.8)
    s = pyro.sample("s", lattice)
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    pyro.deterministic("up", (s > 0).long())
    pyro.sample("y", dist.Normal(s, scale).to_event(2), obs=y)


def mixed(num_samples):
    kernel = ebm.NUTS(noisy_spins, discrete={"s": "sample"})
    mcmc = ebm.MCMC(kernel, num_samples, 20, num_chains=2, disable_progbar=True)
    mcmc.run(torch.zeros(4, 4))
    return mcmc


def summed_out(num_samples):
    """Integers that are drawn back beside what is sampled."""

    def model(y):
        z = pyro.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * z.long())
        pyro.sample("y", dist.Normal(loc + z, 0.1), obs=y)

    mcmc = ebm.MCMC(ebm.NUTS(model), num_samples, 30, disable_progbar=True)
    mcmc.run(torch.tensor(0.5))
    return mcmc


@pytest.mark.parametrize("num_samples", [60, 10])
@pytest.mark.parametrize("run", [begun, mixed, summed_out], ids=lambda run: run.__name__)
def test_the_verdict_without_the_model_is_that_with_it(run, num_samples):
    mcmc = run(num_samples=num_samples)
    assert diagnose_data(mcmc.to_arviz()) == mcmc.diagnose()


@pytest.mark.parametrize("kind", ["first", "store"])
def test_the_page_on_a_run_has_all_its_sections(files, tmp_path, kind):
    page = page_of(files[kind], tmp_path)
    assert page.sections == ["verdict", "summary", "pictures", "model", "made"]
    assert len(page.images) == 2
    assert all(image["alt"] for image in page.images)
    assert page.attributes["html"]["lang"] == "en"
    assert page.elsewhere == []
    for word in ("split R-hat", "ess_bulk", "square", "Normal", "seed", "depends on", "NUTS"):
        assert word in page.text, word


def test_the_page_says_what_the_verdict_says(files, tmp_path, capsys):
    page = page_of(files["first"], tmp_path)
    verdict = diagnose_data(ebm.from_store(files["store"]))
    for line in verdict.splitlines():
        assert line.removeprefix("- ") in page.text.replace("  ", " ")
    assert verdict.splitlines()[0] in capsys.readouterr().out


def test_the_page_on_an_estimate_tells_log_z_and_its_trust(files, tmp_path):
    page, estimate = page_of(files["estimate"], tmp_path), files["log_z"]
    assert page.sections == ["verdict", "log-z", "pictures", "summary", "model", "made"]
    assert f"log Z = {estimate!r}".partition(" [")[0] in page.text
    assert estimate.why in page.text
    assert f"{estimate.khat:.2f} (up to 0.7 is good)" in page.text
    assert len(page.images) == 3


def test_the_estimate_on_disk_makes_the_same_page(tmp_path):
    path = tmp_path / "log_z"
    estimate = ebm.AIS(ebm.Ising.lattice((2, 2)), disable_progbar=True, store=path).run()
    page = page_of(path, tmp_path)
    assert f"{estimate!r}".partition(" [")[0] in page.text


def test_names_from_a_model_cannot_break_the_page(tmp_path):
    draws = np.random.default_rng(0).normal(size=(2, 60))
    data = ebm.inference_data.to_inference_data({"posterior": {"<b>&\"'": draws}})
    page = page_of(written(data, tmp_path / "odd.nc"), tmp_path)
    assert "<b>&\"'" in page.text


def test_data_of_another_package_get_a_page_too(tmp_path):
    rng = np.random.default_rng(0)
    groups = {
        "posterior": {"x": rng.normal(size=(4, 200)), "label": np.full((4, 200), 1)},
        "sample_stats": {"diverging": rng.random((4, 200)) < 0.1},
    }
    data = ebm.inference_data.to_inference_data(groups)
    page = page_of(written(data, tmp_path / "other.nc"), tmp_path)
    assert page.sections == ["verdict", "summary", "pictures", "made"]
    assert "diverged" in page.text


def test_without_matplotlib_the_page_says_what_is_missing(files, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = page_of(files["first"], tmp_path)
    assert page.images == []
    assert "pip install 'pyro_ebm[plot]'" in page.text


def test_the_page_goes_beside_the_run_unless_told_otherwise(files, tmp_path):
    path = shutil.copy(files["first"], tmp_path / "run.nc")
    assert main(["report", str(path)]) == 0
    assert (tmp_path / "run.html").exists()


def test_the_page_on_a_link_goes_beside_the_link(files, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (here / "link.nc").symlink_to(shutil.copy(files["first"], there / "run.nc"))
    assert main(["report", str(here / "link.nc")]) == 0
    assert (here / "link.html").exists()
    assert [path.name for path in there.iterdir()] == ["run.nc"]


def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    pipe = tmp_path / "pipe.nc"
    os.mkfifo(pipe)
    assert main(["report", str(pipe)]) == 2
    assert "neither a file nor a folder" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [float("nan"), float("inf")], ids=str)
def test_draws_that_are_not_finite_are_told_in_words_alone(files, tmp_path, capfd, bad):
    data = az.from_netcdf(files["first"]).load()
    data.posterior["square"].values[0, 3] = bad
    page = page_of(written(data, tmp_path / "bad.nc"), tmp_path)
    sentence = "NaN or infinity stands for square in 1 of 720 draws"
    assert sentence in page.text
    assert "All is well" not in page.text
    assert "arviz" not in "".join(capfd.readouterr()).lower()


def test_a_run_of_a_single_draw_is_told_in_words_alone(tmp_path, capfd):
    data = ebm.inference_data.to_inference_data({"posterior": {"x": np.zeros((1, 1))}})
    page_of(written(data, tmp_path / "short.nc"), tmp_path)
    assert "arviz" not in "".join(capfd.readouterr()).lower()


def bad_inputs(tmp_path):
    broken = tmp_path / "broken.nc"
    broken.write_bytes(b"no netCDF")
    empty = tmp_path / "empty"
    empty.mkdir()
    return {
        "There is no": tmp_path / "nothing.nc",
        "is no file of ArviZ data, or damaged": broken,
        "holds no run": empty,
    }


@pytest.mark.parametrize("sentence", ["There is no", "is no file", "holds no run"])
def test_what_cannot_be_read_gets_a_sentence_and_status_2(tmp_path, capsys, sentence):
    path = next(p for words, p in bad_inputs(tmp_path).items() if words.startswith(sentence))
    assert main(["report", str(path)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert said.startswith("python -m pyro_ebm report: ")


def data_of(tmp_path, groups):
    path = tmp_path / "odd.nc"
    xr.Dataset(groups).to_netcdf(path, group="posterior", engine="h5netcdf")
    return path


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        (("other", np.zeros(3)), "holds no numbers with chains and draws"),
        ((("chain", "draw"), [["a", "b"]]), "holds no numbers with chains and draws"),
        ((("chain", "draw"), np.zeros((2, 0))), "holds a posterior without draws"),
    ],
    ids=["no chains", "strings", "no draws"],
)
def test_a_posterior_without_draws_gets_a_sentence(tmp_path, capsys, variable, sentence):
    assert main(["report", str(data_of(tmp_path, {"x": variable}))]) == 2
    assert sentence in capsys.readouterr().err


def test_the_root_of_a_disk_is_no_run(capsys):
    assert main(["report", "/"]) == 2
    assert "holds no run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(24, "Too many open files"), "Too many open files"),
        (KeyError("least"), "is damaged, or of another version: it lacks 'least'"),
    ],
    ids=["system", "entry"],
)
def test_what_the_system_says_is_told(files, monkeypatch, capsys, error, sentence):
    def fails(_):
        raise error

    monkeypatch.setattr("pyro_ebm.report.read.from_store", fails)
    assert main(["report", str(files["store"])]) == 2
    assert sentence in capsys.readouterr().err


def test_the_page_never_takes_the_place_of_the_run(files, tmp_path, capsys):
    path = shutil.copy(files["first"], tmp_path / "run.nc")
    before = path.read_bytes()
    assert main(["report", str(path), "-o", str(path)]) == 2
    assert "is the run itself" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_graph_that_is_too_long_is_said_to_be_missing(tmp_path):
    draws = np.random.default_rng(0).normal(size=(2, 60))
    graph = {f"site {i}": {"kind": "latent", "distribution": "Normal"} for i in range(1000)}
    data = ebm.inference_data.to_inference_data(
        {"posterior": {"x": draws}}, attrs={"model_graph": graph}
    )
    page = page_of(written(data, tmp_path / "wide.nc"), tmp_path)
    assert page.sections == ["verdict", "summary", "pictures", "model", "made"]
    assert "The graph of this model is not shown" in page.text


def test_a_damaged_store_gets_a_sentence(files, tmp_path, capsys):
    path = tmp_path / "run.zarr"
    shutil.copytree(files["store"], path)
    checkpoint = path / "shard-0000.zarr" / "checkpoint.npz"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert main(["report", str(path)]) == 2
    assert "is cut off or damaged" in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_status_1(files, tmp_path, capsys):
    assert main(["report", str(files["first"]), "-o", str(tmp_path / "no" / "page.html")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_info_tells_what_a_report_of_a_bug_needs(capsys):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("torch", "pyro-ppl", "Devices", "C compiler", "Gears", "Cache folder"):
        assert word in said
