"""The demo does what it says, from its reference values to its files; wrong words are refused."""

import arviz as az
import matplotlib.image
import numpy as np
import pytest
from scipy import optimize, stats

from pyro_ebm import demo
from pyro_ebm.__main__ import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The demo's folder and what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, small in (("NUM_CHAINS", 8), ("NUM_SAMPLES", 30), ("WARMUP_STEPS", 50)):
            patch.setattr(demo, name, small)
        folder = tmp_path_factory.mktemp("demo") / "made" / "here"
        said: list[str] = []
        patch.setattr("builtins.print", lambda *words: said.append(" ".join(map(str, words))))
        assert main(["demo", "--out", str(folder)]) == 0
    return folder, "\n".join(said)


def test_the_demo_says_what_a_person_has_to_know(finished):
    folder, said = finished
    for word in ("r_hat", "ess_bulk", "theta[H]", "Divergences:", "Verdict", "standard errors"):
        assert word in said
    for path in folder.iterdir():
        assert str(path) in said


def test_the_draws_hold_the_energy_and_everything_to_judge_it(finished):
    data = az.from_netcdf(str(finished[0] / "eight_schools.nc"))
    assert data["posterior"]["theta"].dims == ("chain", "draw", "school")
    assert data["posterior"]["school"].values.tolist() == list(demo.SCHOOLS)
    assert data["posterior"].sizes["chain"] == 8
    assert {"sample_stats", "log_likelihood", "observed_data"} <= set(data.groups())
    energies = np.asarray(data["energies"]["unlikeness"])
    theta = np.asarray(data["posterior"]["theta"], dtype=float)
    gaps = np.abs(theta[..., :, None] - theta[..., None, :])
    expected = 0.25 * (np.maximum(gaps - 5.0, 0.0) ** 2).sum((-1, -2))
    np.testing.assert_allclose(energies, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["rank.png", "energy.png", "reference.png"])
def test_a_picture_is_not_empty(finished, name):
    pixels = matplotlib.image.imread(finished[0] / name)
    assert min(pixels.shape[:2]) > 250
    assert pixels[..., :3].std() > 0.05


def test_the_reference_is_what_quadrature_over_tau_gives():
    gains, errors = np.array(demo.GAINS), np.array(demo.STANDARD_ERRORS)
    cells = 20_000
    # Uniform in u is half-Cauchy(5) in tau.
    edges = np.arange(1, cells + 1) / cells
    tau = 5.0 * np.tan(np.pi / 2 * (edges - 0.5 / cells))
    variance = tau[:, None] ** 2 + errors**2
    precision = 1 / 25 + (1 / variance).sum(1)
    mu = (gains / variance).sum(1) / precision
    log_weight = -0.5 * (np.log(variance).sum(1) + (gains**2 / variance).sum(1))
    log_weight += 0.5 * (mu**2 * precision - np.log(precision))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()

    def check(figures, mean, sd):
        def excess(x, share):
            return (weight * stats.norm.cdf((x - mean) / sd)).sum() - share

        low, high = (optimize.brentq(excess, -99, 99, args=(share,)) for share in (0.05, 0.95))
        found = ((weight * mean).sum(), low, high)
        np.testing.assert_allclose(figures, found, atol=1e-5)

    reference = demo.REFERENCE
    keys = ("mean", "q05", "q95")
    check([reference["mu"][key] for key in keys], mu, precision**-0.5)
    share = tau[:, None] ** 2 / variance
    means = (1 - share) * mu[:, None] + share * gains
    sds = np.sqrt(share * errors**2 + (1 - share) ** 2 / precision[:, None])
    for j in range(len(gains)):
        check([reference["theta"][key][j] for key in keys], means[:, j], sds[:, j])
    at = np.interp([0.05, 0.95], np.cumsum(weight), edges)
    found = ((weight * tau).sum(), *(5.0 * np.tan(np.pi / 2 * at)))
    np.testing.assert_allclose([reference["tau"][key] for key in keys], found, atol=1e-4)


def test_no_command_prints_the_usage(capsys):
    assert main([]) == 0
    assert "python -m pyro_ebm" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["dmeo"], ["demo", "--uot", "x"], ["demo", "x"]])
def test_a_wrong_word_is_refused_by_name(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert words[-1] in capsys.readouterr().err or words[1] in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert main(["demo", "--out", str(tmp_path / "taken")]) == 1
    assert "taken" in capsys.readouterr().err


@pytest.mark.parametrize(("module", "extra"), [("matplotlib", "plot"), ("h5netcdf", "netcdf")])
def test_a_missing_package_is_told_before_anything_runs(
    module, extra, tmp_path, monkeypatch, capsys
):
    find = demo.importlib.util.find_spec
    monkeypatch.setattr(
        demo.importlib.util, "find_spec", lambda name: None if name == module else find(name)
    )
    assert main(["demo", "--out", str(tmp_path / "new")]) == 1
    told = capsys.readouterr()
    assert f"pyro_ebm[{extra}]" in told.err
    assert told.out == ""
    assert not (tmp_path / "new").exists()
