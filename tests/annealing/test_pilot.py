"""The first look along a path."""

import math

import torch

from pyro_ebm import DoubleWell, HMCMoves, Target
from pyro_ebm.annealing import pilot as module
from pyro_ebm.annealing.path import geometric
from pyro_ebm.annealing.pilot import pilot

from .paths import normal_base


def look(monkeypatch, barrier):
    """A pilot whose first pass has met this barrier at one of its steps; and how many it made."""
    learn, passes = module.learn, []

    def learned(*args, **options):
        found = learn(*args, **options)
        passes.append(found)
        if barrier is None or len(passes) > 1:
            return found
        steps = found.finished.steps
        met = [barrier, *steps.barrier[1:]]
        finished = found.finished._replace(steps=steps._replace(barrier=met))
        return found._replace(finished=finished)

    monkeypatch.setattr(module, "learn", learned)
    torch.set_default_dtype(torch.float64)
    path = geometric(Target.from_energy(DoubleWell(1)), normal_base(1, scale=2.0))
    generator = torch.Generator().manual_seed(1)
    return pilot(path, HMCMoves(), 64, generator), len(passes)


def test_a_second_pass_has_temperatures_of_equal_barriers(monkeypatch):
    found, passes = look(monkeypatch, None)
    assert passes == 2
    assert math.isfinite(found.barrier)


def test_of_an_infinite_barrier_no_temperatures_are_made(monkeypatch):
    found, passes = look(monkeypatch, math.inf)
    assert passes == 1
    assert found.barrier == math.inf
