"""Ctrl-C in an estimate of log Z: what was computed is kept, and the result says what it is."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal

from pyro_ebm import (
    AIS,
    SMC,
    EnergyDistribution,
    HMCMoves,
    ParallelTempering,
    ThermodynamicIntegration,
)
from pyro_ebm.annealing import Backward
from pyro_ebm.annealing.ladder import Ladder
from pyro_ebm.annealing.passes import forward
from pyro_ebm.annealing.rounds import Rounds

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

METHODS = {
    "ais": (AIS, {"num_particles": 256}),
    "smc": (SMC, {"num_particles": 256}),
    "tempering": (ParallelTempering, {"num_sweeps": 16, "num_ladders": 8}),
    "integration": (ThermodynamicIntegration, {"num_particles": 256}),
}
# What is called between the pilot and the estimate, and after the estimate.
BEFORE = {
    "ais": "rounds.forward",
    "smc": "smc.anneal",
    "tempering": "tempering._round",
    "integration": "integration.climb",
}
AFTER = {
    "ais": "ais.check_backwards",
    "smc": "smc.cross_check",
    "tempering": "tempering.cross_check",
    "integration": "integration.cross_check",
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def stop(*args, **options):
    raise KeyboardInterrupt


def run(name, **options):
    """A normal density of sd 0.5 from a base of sd 1.5."""
    method, settings = METHODS[name]
    model = EnergyDistribution(lambda x: 2.0 * x.square(), ())
    common = {"base": Normal(0.0, 1.5), "moves": HMCMoves(num_steps=1)}
    return method(model, **{**common, **settings, **options}).run()


def is_about_right(estimate) -> bool:
    difference = estimate.log_z - HALF_LOG_2PI - math.log(0.5)
    return abs(difference) < 4.0 * estimate.std_error < 2.0


def is_bounded(estimate) -> bool:
    """Whether Markov's inequality may be used: the mean of exp(log_z) is Z, and it is checked."""
    backward = Backward(torch.zeros(3), 0.0, 0.1, 0.0, 0.1)
    try:
        replace(estimate, backward=backward).bounds()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", METHODS)
def test_before_there_is_a_base_nothing_is_said(name, monkeypatch):
    monkeypatch.setattr("pyro_ebm.annealing.start.given_base", stop)
    estimate = run(name, reverse=False)
    assert math.isnan(estimate.log_z)
    assert estimate.std_error == math.inf
    assert not estimate.reliable
    assert "interrupted before a base was found" in repr(estimate)


@pytest.mark.parametrize("name", METHODS)
def test_before_there_is_an_estimate_the_particles_of_a_learning_round_are_kept(name, monkeypatch):
    monkeypatch.setattr(f"pyro_ebm.annealing.{BEFORE[name]}", stop)
    estimate = run(name, reverse=False)
    assert is_about_right(estimate)
    assert not estimate.reliable
    assert not is_bounded(estimate)
    assert "interrupted: this is what a round that still adapts" in estimate.why
    spread = estimate.draws(200)["x"].std()
    assert abs(spread - 0.5) < 0.2


@pytest.mark.parametrize("name", METHODS)
def test_before_the_check_the_estimate_is_whole(name, monkeypatch):
    monkeypatch.setattr(f"pyro_ebm.annealing.{AFTER[name]}", stop)
    estimate = run(name)
    assert is_about_right(estimate)
    assert not estimate.reliable
    assert "interrupted before it was checked backwards" in estimate.why
    assert is_bounded(estimate) == (name in ("ais", "smc"))


def test_the_batches_of_the_last_round_that_are_finished_are_kept(monkeypatch):
    calls = []

    def second_is_stopped(*args, **options):
        calls.append(args)
        return stop() if len(calls) == 2 else forward(*args, **options)

    monkeypatch.setattr("pyro_ebm.annealing.rounds.forward", second_is_stopped)
    monkeypatch.setattr(Rounds, "_batches", lambda rounds, variance: 3)
    estimate = run("ais", num_particles=None, reverse=False)
    assert estimate.num_particles == 1024
    assert is_about_right(estimate)
    assert not estimate.reliable
    assert not is_bounded(estimate)
    assert "interrupted" in estimate.why


# Three sweeps are too few to make an error of.
@pytest.mark.parametrize(
    ("kept", "said"), [(3, "a round that still adapts"), (7, "interrupted after 7 of 16 sweeps")]
)
def test_the_sweeps_of_the_last_round_that_are_finished_are_kept(kept, said, monkeypatch):
    before = 5 * 8 + math.ceil(0.25 * 16)
    sweep, calls = Ladder.sweep, []

    def stopped(self, *args):
        calls.append(args)
        return stop() if len(calls) > before + kept else sweep(self, *args)

    monkeypatch.setattr(Ladder, "sweep", stopped)
    estimate = run("tempering")
    assert is_about_right(estimate)
    assert not estimate.reliable
    assert said in estimate.why
