"""Pictures of what was learned show the numbers that they are given, and count what they do not."""

import builtins
import math

import numpy as np
import pytest
import torch
from torch.distributions import constraints

from pyro_ebm import GaussianMixtureEnergy, Ising, MuellerBrown, as_energy
from pyro_ebm.learning_plots import plot_energies, plot_landscape
from pyro_ebm.samples_plot import plot_samples


def drawn(figure):
    """Draw it, and give its panels that are seen."""
    figure.canvas.draw()
    return [panel for panel in figure.axes if panel.get_visible()]


def mixture():
    return GaussianMixtureEnergy(torch.tensor([[-2.0, 0.0], [2.0, 1.0]]), 0.5)


def bowl(x):
    return 0.5 * x.square().sum()


def heights(panel):
    """Heights and edges of the lines of histograms."""
    return [patch.get_data()[:2] for patch in panel.patches if not patch.get_fill()]


def test_numbers_are_histograms_in_the_same_bins():
    data, samples = torch.randn(500), torch.cat([torch.randn(299), torch.tensor([50.0])])
    (panel,) = drawn(plot_samples(data, samples))
    (first, edges), (second, same) = heights(panel)
    np.testing.assert_array_equal(edges, same)
    counts, _ = np.histogram(data.double().numpy(), edges)
    np.testing.assert_allclose(first * 500 * np.diff(edges), counts)
    assert 299 - 5 <= (second * 300 * np.diff(edges)).sum() <= 299
    labels = [patch.get_label() for patch in panel.patches if not patch.get_fill()]
    assert labels[0] == "500 data"
    assert labels[1].startswith("300 samples, ")


def test_whole_numbers_have_a_bin_each():
    (panel,) = drawn(plot_samples(torch.tensor([0, 0, 1, 3]), torch.tensor([[1], [2]])[:, 0]))
    (first, edges), (second, _) = heights(panel)
    np.testing.assert_array_equal(edges, [-0.5, 0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(first, [0.5, 0.25, 0.0, 0.25])
    np.testing.assert_allclose(second, [0.0, 0.5, 0.5, 0.0])


def test_pairs_of_numbers_are_points_side_by_side():
    data, samples = torch.randn(300, 2), torch.randn(50, 2)
    samples[0] = 90.0
    left, right = drawn(plot_samples(data, samples.numpy(), names=["a", "b"], num_points=100))
    assert len(left.get_lines()[0].get_xdata()) == 100
    np.testing.assert_allclose(right.get_lines()[0].get_xydata(), samples, rtol=1e-6)
    assert left.get_xlim() == right.get_xlim()
    assert left.get_title() == "300 data"
    assert right.get_title().startswith("50 samples, ")
    assert right.get_title().endswith(" beyond")
    assert (left.get_xlabel(), left.get_ylabel()) == ("a", "b")


def test_long_rows_are_drawn_in_pairs_data_below_and_samples_above():
    data, samples = torch.randn(40, 6), torch.randn(30, 6)
    samples[:, 2] = torch.randint(3, (30,))
    data[:, 2] = torch.randint(3, (40,))
    panels = np.array(drawn(plot_samples(data, samples, num_columns=3))).reshape(3, 3)
    np.testing.assert_allclose(
        panels[1, 0].get_lines()[0].get_xydata(), data[:, [0, 1]].numpy(), rtol=1e-6
    )
    np.testing.assert_allclose(
        panels[0, 1].get_lines()[0].get_xydata(), samples[:, [1, 0]].numpy(), rtol=1e-6
    )
    # States are shaken, and stay where they can be told apart.
    shaken = panels[2, 0].get_lines()[0].get_ydata()
    np.testing.assert_array_equal(shaken.round(), data[:, 2])
    assert "3 of 6 columns" in panels[0, 0].figure.get_suptitle()


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (3, 5, 4), (5, 4, 3)])
def test_images_are_laid_out_on_sheets(shape):
    data, samples = torch.rand(20, *shape), 2 * torch.rand(7, *shape)
    left, right = drawn(plot_samples(data, samples, num_images=9))
    sheet = np.asarray(left.get_images()[0].get_array())
    assert sheet.shape[:2] == (3 * 6 - 1, 3 * 5 - 1)
    first = data[0].squeeze(0) if shape[0] == 1 else data[0]
    first = first.movedim(0, -1) if shape[0] == 3 else first
    expected = (first - data.min()) / (data.max() - data.min())
    np.testing.assert_allclose(sheet[:5, :4], expected, atol=1e-6)
    assert (left.get_title(), right.get_title()) == ("9 of 20 data", "7 samples")
    assert np.asarray(right.get_images()[0].get_array()).max() <= 1.0


def test_the_landscape_is_the_energy_above_its_lowest_value():
    figure = plot_landscape(
        bowl, torch.randn(70, 2), temperature=2.0, limits=((-3, 3), (-2, 2)), resolution=41
    )
    panel, bar = drawn(figure)
    shades = panel.collections[0]
    assert shades.levels[[0, -1]].tolist() == [0.0, 12.0]
    levels = shades.levels
    for level, paths in zip(levels[1:5], shades.get_paths()[:4], strict=True):
        furthest = np.linalg.norm(paths.vertices, axis=1).max()
        # E/T = r^2 / 4 below the level, but for the straight lines between grid points.
        assert 0.25 * furthest**2 == pytest.approx(level, rel=0.05)
    assert panel.get_xlim() == (-3.0, 3.0)
    assert panel.get_title() == "70 rows of data"
    assert "nats" in bar.get_ylabel()


def test_limits_come_from_data_or_from_exact_draws():
    data = torch.tensor([[0.0, 10.0], [1.0, 30.0]])
    assert drawn(plot_landscape(bowl, data))[0].get_ylim() == pytest.approx((6.0, 34.0))
    low, high = drawn(plot_landscape(mixture(), resolution=20))[0].get_xlim()
    assert low < -3.0 < 3.0 < high
    with pytest.raises(ValueError, match="expected data or limits"):
        plot_landscape(MuellerBrown())


def test_outside_of_the_support_there_is_no_landscape():
    energy = as_energy(bowl, event_shape=(2,), support=constraints.positive)
    panel = drawn(plot_landscape(energy, limits=((-1, 1), (-1, 1)), resolution=40))[0]
    vertices = np.concatenate([path.vertices for path in panel.collections[0].get_paths()])
    assert vertices.min() > 0.0
    with pytest.raises(ValueError, match="a number somewhere"):
        plot_landscape(energy, limits=((-2, -1), (-2, -1)))


def test_energies_are_histograms_of_data_samples_and_noise():
    energy = mixture()
    data, samples = energy.exact_sample((400,)), energy.exact_sample((200,))
    noise = 100.0 * torch.randn(100, 2)
    (panel,) = drawn(plot_energies(energy, data, samples, noise, temperature=2.0))
    (first, edges), _, (last, _) = heights(panel)
    counts, _ = np.histogram(0.5 * energy(data).double().numpy(), edges)
    np.testing.assert_allclose(first * 400 * np.diff(edges), counts)
    labels = [patch.get_label() for patch in panel.patches if not patch.get_fill()]
    assert labels[0].startswith(f"400 data: mean {0.5 * float(energy(data).double().mean()):.4g}")
    above = 100 - round(float((last * 100 * np.diff(edges)).sum()))
    assert above > 50
    assert labels[2].endswith(f"{above} above")


def test_energies_without_noise_and_with_infinite_ones():
    energy = as_energy(lambda x: torch.where(x > 0, x, torch.inf))
    (panel,) = drawn(plot_energies(energy, torch.rand(50), torch.randn(40).sign()))
    assert len(heights(panel)) == 2
    with pytest.raises(ValueError, match="got none at the samples"):
        plot_energies(energy, torch.rand(5), -torch.rand(5))


def test_equal_energies_are_drawn():
    flat = as_energy(lambda x: 0.0 * x)
    drawn(plot_energies(flat, torch.rand(5), torch.rand(5)))
    drawn(plot_samples(torch.ones(4) / 3, torch.ones(3) / 3))


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: plot_samples(torch.zeros(3, 2), torch.zeros(3, 3)), "one event shape"),
        (lambda: plot_samples(torch.zeros(3, 2, 2, 2, 2), torch.zeros(3, 2, 2, 2, 2)), "images"),
        (lambda: plot_samples(torch.zeros(3, 2), torch.zeros(3, 2), names=["a"]), "2 names"),
        (
            lambda: plot_samples(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), names=["a"]),
            "rows of numbers alone",
        ),
        (lambda: plot_samples(torch.zeros(3), torch.zeros(3), num_points=0), "num_points"),
        (lambda: plot_samples(torch.full((3,), math.nan), torch.zeros(3)), "finite numbers"),
        (lambda: plot_landscape(as_energy(bowl, event_shape=(3,))), "two continuous numbers"),
        (lambda: plot_landscape(Ising(torch.zeros(2, 2))), "two continuous numbers"),
        (lambda: plot_landscape(bowl, limits=((1, 0), (0, 1))), "expected limits"),
        (lambda: plot_landscape(bowl, limits=((0, 1),)), "expected limits"),
        (lambda: plot_landscape(bowl, torch.randn(3, 2), highest=0.0), "highest"),
        (lambda: plot_energies(mixture(), torch.zeros(3, 3), torch.zeros(3, 2)), "event shape"),
        (
            lambda: plot_energies(
                mixture(), torch.zeros(3, 2), torch.zeros(3, 2), temperature=torch.ones(2)
            ),
            "one temperature",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, said):
    with pytest.raises((ValueError, TypeError), match=said):
        draw()


def test_a_missing_matplotlib_is_told_with_the_way_out(monkeypatch):
    real = builtins.__import__

    def without_matplotlib(name, *rest, **options):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError("No module named 'matplotlib'")
        return real(name, *rest, **options)

    x = torch.randn(9, 2)
    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    for draw in (
        lambda: plot_samples(x, x),
        lambda: plot_landscape(bowl, x),
        lambda: plot_energies(mixture(), x, x),
    ):
        with pytest.raises(ImportError, match=r"pip install 'pyro_ebm\[plot\]'"):
            draw()
