"""Pictures show the numbers they are given, and say what is wrong with what they are not."""

import builtins

import arviz as az
import numpy as np
import pytest
from scipy import stats

from pyro_ebm import plots
from pyro_ebm.inference_data import to_inference_data

CHAINS, DRAWS = 32, 100


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    return {
        "mu": rng.normal(2.0, 1.0, (CHAINS, DRAWS)),
        "theta": rng.normal([0.0, 5.0, -5.0], 2.0, (CHAINS, DRAWS, 3)),
    }


@pytest.fixture
def reference():
    low, high = stats.norm.ppf([0.05, 0.95])
    theta = np.array([0.0, 5.0, -5.0])
    return {
        "theta": {"mean": theta, "q05": theta + 2 * low, "q95": theta + 2 * high},
        "mu": {"mean": 2.0, "q05": 2 + low, "q95": 2 + high},
    }


def as_data(arrays):
    rng = np.random.default_rng(4)
    energy = rng.normal(50.0, 3.0, (CHAINS, DRAWS))
    groups = {"posterior": arrays, "sample_stats": {"energy": energy}}
    return to_inference_data(groups, dims={"theta": ("school",)}, coords={"school": list("ABC")})


def leaves_the_band(panel):
    """Whether any line of a rank panel leaves its grey band."""
    band = panel.patches[0].get_extents().transformed(panel.transData.inverted())
    return any((np.abs(line.get_ydata()) > band.y1).any() for line in panel.get_lines())


def test_chains_that_agree_stay_in_the_band_of_the_rank_picture(arrays):
    figure = plots.plot_rank(as_data(arrays))
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == ["mu", "theta[A]", "theta[B]", "theta[C]"]
    assert all(len(panel.get_lines()) == CHAINS for panel in panels)
    assert not any(leaves_the_band(panel) for panel in panels)


def test_a_chain_that_is_elsewhere_leaves_the_band_of_the_rank_picture(arrays):
    arrays["mu"][7] += 2.0
    (panel,) = plots.plot_rank(as_data(arrays), ["mu"]).axes
    assert leaves_the_band(panel)


def test_the_lines_of_the_rank_picture_are_differences_of_distribution_functions(arrays):
    (panel,) = plots.plot_rank(as_data(arrays), ["mu"]).axes
    draws = arrays["mu"]
    share = 0.3
    cut = np.quantile(draws, share, method="nearest")
    differences = (draws <= cut).mean(1) - (draws <= cut).mean()
    drawn = [np.interp(share, *line.get_data()) for line in panel.get_lines()]
    np.testing.assert_allclose(drawn, differences, atol=1e-12)


def test_the_energy_picture_shows_both_densities(arrays):
    data = as_data(arrays)
    (panel,) = plots.plot_energy(data).axes
    for patch in panel.patches:
        heights, edges, _ = patch.get_data()
        np.testing.assert_allclose((heights * np.diff(edges)).sum(), 1.0)
    lowest = np.min(az.bfmi(np.asarray(data["sample_stats"]["energy"])))
    assert f"{lowest:.2f}" in panel.get_title()


def test_deviations_from_the_truth_are_standard_normal_numbers(arrays, reference):
    deviations = plots.reference_deviations(as_data(arrays), reference)
    values = np.concatenate(list(deviations.values()))
    # Four numbers: one beyond 4 comes once in 4,000 times.
    assert (np.abs(values) < 4).all()
    expected = (arrays["mu"].mean() - 2.0) / (arrays["mu"].std() / np.sqrt(arrays["mu"].size))
    np.testing.assert_allclose(deviations["mu"], expected, rtol=0.2)


def test_the_references_own_error_counts(arrays, reference):
    known = plots.reference_deviations(as_data(arrays), reference)["mu"]
    reference["mu"]["mcse_mean"] = 1e6
    assert abs(plots.reference_deviations(as_data(arrays), reference)["mu"]) < abs(known) / 100


def test_the_reference_picture_shows_every_element_of_every_run(arrays, reference):
    data = as_data(arrays)
    figure = plots.plot_reference(data, reference, beside={"shifted": data}, unit="points")
    left, right = figure.axes
    rows = [label.get_text() for label in left.get_yticklabels()]
    assert rows == ["theta[A]", "theta[B]", "theta[C]", "mu"]
    assert left.get_xlabel() == "points"
    means = [*arrays["theta"].mean((0, 1)), arrays["mu"].mean()]
    first, second = (each.lines[0].get_xdata() for each in left.containers[1:])
    np.testing.assert_allclose(first, means)
    np.testing.assert_allclose(second, means)
    deviations = plots.reference_deviations(data, reference)
    np.testing.assert_allclose(
        right.get_lines()[-1].get_xdata(), np.concatenate(list(deviations.values()))
    )


def test_the_table_shows_every_column(arrays):
    table = plots.summary_table(as_data(arrays), ["theta"])
    assert "..." not in table
    for word in ("theta[A]", "mean", "ess_bulk", "ess_tail", "r_hat"):
        assert word in table
    assert "mu" not in table


@pytest.mark.parametrize("draw", [plots.plot_rank, plots.summary_table])
def test_names_that_are_not_there_are_refused(draw, arrays):
    data = as_data(arrays)
    with pytest.raises(ValueError, match=r"\['mu', 'theta'\], got 'tau'"):
        draw(data, ["tau"])
    with pytest.raises(ValueError, match="at least one variable"):
        draw(data, [])
    with pytest.raises(TypeError, match="list of names"):
        draw(data, "mu")


def test_a_reference_that_does_not_fit_is_refused(arrays, reference):
    data = as_data(arrays)
    with pytest.raises(ValueError, match="reference of 3 elements for 'theta'"):
        plots.plot_reference(data, {"theta": {"mean": [0.0], "q05": [-1.0], "q95": [1.0]}})
    with pytest.raises(ValueError, match=r"q05 and q95 in the reference of 'mu', got \['mean'\]"):
        plots.plot_reference(data, {"mu": {"mean": 0.0}})
    with pytest.raises(ValueError, match=r"sizes \[3, 2, 3, 1\]"):
        plots.plot_reference(data, {"theta": reference["theta"] | {"q05": [1.0, 2.0]}})
    with pytest.raises(ValueError, match="got 'nu'"):
        plots.plot_reference(data, {"nu": reference["mu"]})


def test_a_missing_matplotlib_is_told_with_the_way_out(arrays, monkeypatch):
    real = builtins.__import__

    def without_matplotlib(name, *rest, **options):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError("No module named 'matplotlib'")
        return real(name, *rest, **options)

    data = as_data(arrays)
    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(ImportError, match=r"pip install 'pyro_ebm\[plot\]'"):
        plots.plot_energy(data)
