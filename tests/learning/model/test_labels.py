"""Labels: refused where they are no classes, and given back as they were."""

import numpy as np
import pytest

import pyro_ebm as ebm

ROWS = np.random.RandomState(0).randn(40, 2)
QUICK = {"components": 1, "num_steps": 0, "random_state": 0}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.where(ROWS[:, 0] > 0.0, 1.0, np.nan), "y contains NaN"),
        (np.array(["a", None] * 20, dtype=object), "y contains NaN"),
        (ROWS[:, 0], "Unknown label type: continuous"),
        (ROWS[:, 0].astype(object), "Unknown label type: continuous"),
        (np.array(["a", 1] * 20, dtype=object), "int and str"),
        (np.zeros(40), "at least two labels"),
        (np.zeros((40, 1)), "one label for each of 40 rows"),
    ],
)
def test_what_are_no_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        ebm.EnergyModel(**QUICK).fit(ROWS, labels)


@pytest.mark.parametrize("kind", [float, int, bool, str, object])
def test_labels_are_given_back_as_they_were(kind):
    labels = (ROWS[:, 0] > 0.0).astype(int).astype(kind)
    model = ebm.EnergyModel(**QUICK).fit(ROWS, labels)
    assert set(model.predict(ROWS)) <= set(labels)
