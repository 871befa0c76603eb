"""Estimates of log Z in shards: the same number wherever they are made."""

import json
import math
import subprocess
import sys

import numpy as np
import pyro
import pytest
import torch

import pyro_ebm as ebm

from ..mcmc.failing import Failing
from .sharded_estimate import ISING, OPTIONS, estimate

METHODS = pytest.mark.parametrize(
    ("method", "options"), [(getattr(ebm, name), OPTIONS[name]) for name in OPTIONS], ids=OPTIONS
)


@pytest.mark.slow
def test_the_estimate_does_not_depend_on_who_makes_it():
    program = [sys.executable, "-m", "tests.annealing.sharded_estimate"]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    for name, options in OPTIONS.items():
        here = estimate(getattr(ebm, name), ebm.SerialExecutor(), **options)
        assert found[name] == here.log_z
        assert here.num_particles == options["num_particles"]
    there, here, error, truth = found["well"]
    assert there == here
    assert abs(here - truth) < 4 * error


@pytest.mark.slow
@METHODS
def test_pooled_shards_are_right_within_their_error(method, options):
    truth = float(ISING.log_normalizer())
    scores = []
    for seed in range(8):
        pyro.set_rng_seed(seed)
        run = method(ISING, executor=ebm.SerialExecutor(), disable_progbar=True, **options)
        found = run.run()
        scores.append((found.log_z - truth) / found.std_error)
    assert abs(np.mean(scores)) < 4 / math.sqrt(len(scores))
    # 99.9 % of chi-squares with 8 degrees of freedom.
    assert np.square(scores).sum() < 26.1


def test_shards_have_random_streams_of_their_own():
    weights = estimate(ebm.AIS, ebm.SerialExecutor(), num_particles=2048).log_weights
    assert not torch.equal(weights[:1024], weights[1024:])
    assert len(weights.unique()) > 1000


@METHODS
@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("no")], ids=["^C", "no"])
def test_a_stopped_estimate_goes_on_with_the_shards_that_are_missing(
    method, options, error, tmp_path
):
    path = tmp_path / "log_z"
    if isinstance(error, KeyboardInterrupt):
        partial = estimate(method, Failing(2, error), store=path, **options)
        assert not partial.reliable
    else:
        with pytest.raises(ZeroDivisionError) as caught:
            estimate(method, Failing(2, error), store=path, **options)
        assert "Failed of 3 shards: 2." in caught.value.__notes__
    assert len([*path.glob("stages/*shard*")]) == 2
    calls = Failing(99, error)
    again = method.resume(path, ISING, executor=calls).run()
    assert calls.calls == 1
    assert again.log_z == estimate(method, ebm.SerialExecutor(), **options).log_z


def test_an_interrupted_pass_counts_the_particles_that_ended():
    found = estimate(ebm.AIS, Failing(1, KeyboardInterrupt()), num_particles=2048)
    assert found.num_particles == 1024
    assert not found.reliable
    assert "only the rounds and batches finished before are used" in found.why


def test_a_run_in_shards_is_resumed_here_unless_told_otherwise(tmp_path):
    first = estimate(ebm.AIS, ebm.SerialExecutor(), num_particles=1500, store=tmp_path / "log_z")
    assert ebm.AIS.resume(tmp_path / "log_z", ISING).run().log_z == first.log_z
    estimate(ebm.AIS, None, store=tmp_path / "other")
    with pytest.raises(ValueError, match="option 'executor' is new"):
        ebm.AIS.resume(tmp_path / "other", ISING, executor=ebm.SerialExecutor()).run()


def test_a_schedule_that_looks_at_all_islands_is_refused():
    with pytest.raises(ValueError, match=r"Adaptive\(\) looks at the particles of all islands"):
        ebm.SMC(ISING, schedule=ebm.Adaptive(), executor=ebm.SerialExecutor())
