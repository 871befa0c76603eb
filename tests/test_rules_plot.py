"""The picture of learning curves shows what it is given."""

import numpy as np
import pytest
import torch

import pyro_ebm as ebm


@pytest.fixture(scope="module")
def curve():
    torch.manual_seed(0)
    return ebm.learning_curve(
        ebm.BinaryTeacher(ebm.Perceptron(6)),
        ebm.Perceptron(6),
        ebm.ZeroOne(),
        alphas=[1.0, 2.0, 3.0],
        temperatures=[1.0, 0.5],
        num_data_sets=3,
        num_particles=4,
        num_sweeps=2,
    )


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_one_curve_a_temperature_against_alpha(curve):
    figure = ebm.plot_learning_curves(curve)
    assert labels(figure) == ["T = 1", "T = 0.5"]
    named = [panel.get_ylabel() for panel in figure.axes if panel.get_visible()]
    assert named == ["training error", "generalisation error", "entropy s, relative to the prior"]
    line = figure.axes[0].containers[0].lines[0]
    assert np.allclose(line.get_ydata(), curve.training_error[:, 0])


def test_sets_and_theory_have_names(curve):
    theory = ebm.perceptron_theory([0.5, 1.0, 2.0])
    cold = curve.sel(temperature=[0.5])
    figure = ebm.plot_learning_curves({"N = 6": cold}, theory=theory, names=["entropy"])
    assert labels(figure) == ["theory", "N = 6"]
    along = ebm.plot_learning_curves(curve, along="temperature", names=["overlap"])
    assert labels(along) == ["alpha = 1", "alpha = 2", "alpha = 3"]


def test_a_quantity_that_is_not_there_is_refused(curve):
    with pytest.raises(ValueError, match="expected names among"):
        ebm.plot_learning_curves(curve, names=["volume"])
    with pytest.raises(ValueError, match="at least one"):
        ebm.plot_learning_curves({})
