"""What the methods along a path refuse, each by the name of the argument."""

import pytest

from pyro_ebm import AIS, SMC, DoubleWell, Linear, ParallelTempering, ThermodynamicIntegration
from pyro_ebm.annealing import Adaptive, InverseTemperatures

SHORT = InverseTemperatures([0.0, 0.5])

WRONG = {
    AIS: [
        ({"num_particles": 1}, "expected num_particles to be a whole number of at least 2"),
        ({"num_particles": True}, "expected num_particles to be a whole number"),
        ({"schedule": SHORT}, "rise from 0"),
    ],
    SMC: [
        ({"num_islands": 0}, "expected num_islands"),
        ({"num_particles": 8}, "expected num_particles to be a whole number"),
        ({"num_particles": 1001}, "islands x chains x length"),
        ({"resample_below": 1.5}, r"expected resample_below in \[0, 1\]"),
        ({"waste_free": -3}, "expected waste_free"),
        ({"waste_free": 128}, "islands x chains x length"),
        ({"waste_free": True, "num_islands": 2}, "at least 4 islands"),
        ({"schedule": Adaptive(1.0)}, r"expected conditional_ess in \(0, 1\)"),
        ({"schedule": SHORT}, "rise from 0"),
    ],
    ParallelTempering: [
        ({"num_ladders": 1}, "expected num_ladders"),
        ({"num_sweeps": 3}, "expected num_sweeps"),
        ({"num_rounds": 0}, "expected num_rounds"),
        ({"num_temperatures": True}, "expected num_temperatures"),
    ],
    ThermodynamicIntegration: [
        ({"num_particles": 1}, "at least 2, got 1"),
        ({"schedule": SHORT}, "rise from 0"),
        ({"schedule": Linear(0)}, "at least one temperature"),
    ],
}
ANY = ({"base": "prior"}, 'expected base to be "auto" or an object')


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [(method, *each) for method, found in WRONG.items() for each in [ANY, *found]],
)
def test_wrong_arguments_are_refused_by_name(method, arguments, said):
    with pytest.raises(ValueError, match=said):
        method(DoubleWell(1), **arguments)
