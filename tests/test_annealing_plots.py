"""Pictures of an estimate show its numbers, and say what they cannot show."""

import builtins
import math

import numpy as np
import pytest
import torch

from pyro_ebm.annealing_plots import plot_path, plot_weights, plot_works
from tests.annealing.estimates import annealed, plain


def drawn(figure):
    """Draw it, and give its panels that are seen."""
    figure.canvas.draw()
    return [panel for panel in figure.axes if panel.get_visible()]


def test_the_path_shows_schedule_barrier_acceptance_and_ess():
    estimate = annealed()
    schedule, barrier, acceptance, ess, cumulative = drawn(plot_path(estimate))
    np.testing.assert_array_equal(schedule.get_lines()[0].get_ydata(), estimate.path["beta"])
    heights, edges, _ = barrier.patches[0].get_data()
    np.testing.assert_allclose(heights * np.diff(edges), estimate.path["barrier"])
    np.testing.assert_allclose(cumulative.get_lines()[0].get_ydata(), [0, 0.2, 0.45, 0.75])
    assert barrier.get_title() == "Barrier: 0.75 in all"
    assert np.nanmean(acceptance.get_lines()[0].get_ydata()) == pytest.approx(0.75)
    np.testing.assert_array_equal(ess.get_lines()[0].get_ydata()[1:], estimate.path["ess"])


def test_a_path_without_some_figures_shows_the_others():
    panels = drawn(plot_path(plain(path={"beta": [0.0, 0.5, 1.0], "acceptance": [0.6]})))
    assert len(panels) == 2


def test_weights_are_sorted_in_units_of_their_mean():
    estimate = annealed()
    left, right = drawn(plot_weights(estimate))
    shown = left.get_lines()[0].get_ydata()
    assert (np.diff(shown) <= 0).all()
    assert shown.mean() == pytest.approx(1.0)
    assert right.get_lines()[1].get_label() == "Pareto, k = 0.30"


@pytest.mark.parametrize("khat", [-0.4, 0.0, 0.5, 1.3])
def test_the_pareto_line_of_its_own_weights_passes_through_them(khat):
    n = 4000
    uniform = (np.arange(n) + 0.5) / n
    excess = -np.log(uniform) if khat == 0 else (uniform**-khat - 1) / khat
    weights = torch.as_tensor(1e-6 + excess).log()
    estimate = annealed(log_weights=weights, khat=khat, num_particles=n)
    points, line = drawn(plot_weights(estimate))[1].get_lines()
    # The tail of a Pareto distribution is one of the same shape.
    at = np.interp(np.log(points.get_xdata()[::-1]), np.log(line.get_xdata()), line.get_ydata())
    assert np.abs(at[5:] - points.get_ydata()[::-1][5:])[:-10].max() < 0.05


def test_a_heavy_tail_is_named():
    _, right = drawn(plot_weights(annealed(khat=0.9)))
    assert right.get_title().endswith("too heavy, k-hat above 0.7")


def test_weights_of_zero_are_counted():
    weights = torch.randn(100, dtype=torch.float64)
    weights[:7] = -math.inf
    left, _ = drawn(plot_weights(annealed(log_weights=weights, khat=math.nan)))
    assert left.get_title().startswith("100 weights, 7 of them zero")


def test_works_of_both_directions_cross_at_log_z():
    estimate = annealed(n=40_000, m=40_000)
    (panel,) = drawn(plot_works(estimate))
    (up, edges, _), (down, _, _) = (patch.get_data() for patch in panel.patches[:2])
    middle = 0.5 * (edges[1:] + edges[:-1])
    well = (up > 0.05) & (down > 0.05)
    # Crooks: the log ratio of the densities is the work less log Z.
    ratio = np.log(down[well] / up[well])
    np.testing.assert_allclose(ratio, middle[well] - estimate.log_z, atol=0.2)
    assert panel.get_lines()[0].get_xdata()[0] == estimate.log_z


def test_densities_of_works_count_what_is_not_shown():
    works = torch.cat([torch.randn(99, dtype=torch.float64), torch.tensor([-math.inf])])
    (panel,) = drawn(plot_works(annealed(log_weights=works, log_z=0.0)))
    heights, edges, _ = panel.patches[0].get_data()
    beyond = round(100 * (1 - (heights * np.diff(edges)).sum()))
    assert panel.patches[0].get_label() == f"100 up from the base ({beyond} beyond)"


def test_forward_works_of_their_own_are_taken():
    own = torch.randn(50, dtype=torch.float64) - 3.0
    (panel,) = drawn(plot_works(annealed(details={"forward_works": own})))
    assert panel.patches[0].get_label().startswith("50 up")


def test_what_an_estimate_does_not_hold_is_named():
    with pytest.raises(ValueError, match="a path of inverse temperatures; AIS has none"):
        plot_path(plain())
    with pytest.raises(ValueError, match="with weights; AIS has none"):
        plot_weights(plain())
    with pytest.raises(ValueError, match="all equal"):
        plot_weights(annealed(log_weights=torch.zeros(9, dtype=torch.float64)))
    with pytest.raises(ValueError, match="all zero"):
        plot_weights(annealed(log_weights=torch.full((9,), -math.inf)))
    with pytest.raises(ValueError, match="run with reverse=True"):
        plot_works(annealed(backward=None))


def test_a_missing_matplotlib_is_told_with_the_way_out(monkeypatch):
    real = builtins.__import__

    def without_matplotlib(name, *rest, **options):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError("No module named 'matplotlib'")
        return real(name, *rest, **options)

    estimate = annealed()
    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    for draw in (plot_path, plot_weights, plot_works):
        with pytest.raises(ImportError, match=r"pip install 'pyro_ebm\[plot\]'"):
            draw(estimate)
