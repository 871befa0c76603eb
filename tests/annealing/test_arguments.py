"""What the methods along a path refuse, each by the name of the argument."""

import pytest

from pyro_ebm import (
    AIS,
    SMC,
    DoubleWell,
    HMCMoves,
    Linear,
    Optimized,
    ParallelTempering,
    ThermodynamicIntegration,
)
from pyro_ebm.annealing import Adaptive, InverseTemperatures
from pyro_ebm.annealing.start import check_moves

SHORT = InverseTemperatures([0.0, 0.5])

WRONG = {
    AIS: [
        ({"num_particles": 1}, "expected num_particles to be a whole number of at least 2"),
        ({"num_particles": True}, "expected num_particles to be a whole number"),
        ({"schedule": SHORT}, "rise from 0"),
        ({"schedule": InverseTemperatures("ab")}, "expected inverse temperatures to be numbers"),
        ({"schedule": Optimized(max_temperatures=0)}, "expected max_temperatures"),
        ({"schedule": Optimized(relative_variance=-1.0)}, "expected relative_variance"),
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


@pytest.mark.parametrize("method", WRONG)
@pytest.mark.parametrize("schedule", [[0.0, 1.0], 10, Optimized], ids=str)
def test_a_schedule_of_another_kind_is_refused(method, schedule):
    with pytest.raises(TypeError):
        method(DoubleWell(1), schedule=schedule)


@pytest.mark.parametrize("moves", ["hmc", HMCMoves])
def test_moves_of_another_kind_are_refused(moves):
    with pytest.raises(TypeError, match="expected moves to be HMCMoves"):
        check_moves(moves)


@pytest.mark.parametrize("method", WRONG)
def test_no_model_is_refused_at_once(method):
    with pytest.raises(TypeError, match="got None"):
        method(None)


def test_a_function_that_is_an_energy_is_told_how_to_be_one():
    with pytest.raises(TypeError, match=r"expected arguments that the model takes.*as_energy\("):
        AIS(lambda x: x.square().sum()).run()
