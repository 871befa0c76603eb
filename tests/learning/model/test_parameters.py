"""Parameters that are refused before anything is fitted."""

import numpy as np
import pytest

import pyro_ebm as ebm

ROWS = np.random.RandomState(0).randn(40, 2)
QUICK = {"components": 1, "num_steps": 0, "random_state": 0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("components", each) for each in (0, -1, 2.5, "foo", [], [1, 0], True, None)),
        *(("hidden", each) for each in ([], 64, (0,), (8.5,), "wide", None)),
        *(("learning_rate", each) for each in (0.0, -1, "a", np.inf, np.nan, None)),
        *(("held_out", each) for each in (1.5, 1.0, -0.1, "a", True)),
        *(("patience", each) for each in (0, 2.5, "a")),
        *(("jitter", each) for each in (-1.0, "a")),
    ],
)
def test_parameters_outside_of_their_range_are_refused_before_the_data_are_read(name, value):
    with pytest.raises(ValueError, match=name):
        ebm.EnergyModel().set_params(**{name: value}).fit("no table")


def test_components_of_which_none_fits_are_refused():
    for components in (6, [6, 7]):
        model = ebm.EnergyModel(**(QUICK | {"components": components}))
        with pytest.raises(ValueError, match="at most 5 with 40 rows"):
            model.fit(ROWS)
    for components in ([2, 6], range(1, 3)):
        fitted = ebm.EnergyModel(**(QUICK | {"components": components})).fit(ROWS)
        # Two each in ten mixtures, as rows are few.
        assert len(fitted.base_.log_weights) <= 20
