"""The last round is decided beforehand: so its mean Z is the truth; that of a chosen one is not."""

import math

import pytest
import torch

from pyro_ebm import AIS, EnergyDistribution, HMCMoves, Ising, Optimized, SerialExecutor
from pyro_ebm.annealing import rounds
from pyro_ebm.annealing.freeze import as_target
from pyro_ebm.annealing.passes import Steps, together
from pyro_ebm.annealing.progress import Stages
from pyro_ebm.annealing.rounds import Rounds
from pyro_ebm.annealing.start import Wanted, start

from .paths import normal_base

PARTICLES, REPEATS, LEARNED = 8, 300, 8
SD = 0.2
LOG_Z = math.log(SD) + 0.5 * math.log(2 * math.pi)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def narrow(x):
    return 0.5 * (x / SD).square()


def unread(part):
    raise AssertionError("There is no folder in which to read of a part of the round.")


def errors_from_one():
    """How many errors the mean of Z / truth lies from one, over last rounds of eight particles.

    Each schedule is learned by eight particles too; the repeats of one schedule are one pass.
    """
    plan = Rounds(Optimized(relative_variance=1.0), PARTICLES, most_batches=1)
    wanted = Wanted(
        EnergyDistribution(narrow, ()), normal_base(1, scale=2.0), HMCMoves(), PARTICLES, "AIS"
    )
    many, ratios = plan._replace(num_particles=REPEATS * PARTICLES), []
    with Stages(disable=True) as stages:
        begun = start(as_target(wanted.model, (), {}), wanted, (), {}, stages, seed=0)
        for _ in range(LEARNED):
            learned = plan.learn(begun, stages)
            result, whole = many.last(begun, stages, learned, unread)
            assert whole
            ratios.append((result.log_weights.reshape(-1, PARTICLES) - LOG_Z).exp().mean(1))
    ratio = torch.cat(ratios)
    return abs(float(ratio.mean()) - 1.0) / (float(ratio.std()) / math.sqrt(len(ratio)))


def test_the_mean_of_z_of_the_last_round_is_the_truth():
    assert errors_from_one() < 4


def test_repeating_the_last_round_until_its_weights_are_even_is_caught(monkeypatch):
    once = rounds.forward

    def evenness(passed):
        shares = passed.log_weights.reshape(-1, PARTICLES).softmax(1)
        return -shares.square().sum(1, keepdim=True)

    def most_even(*args, **options):
        first, second, third = (once(*args, **options) for _ in range(3))
        for other in (second, third):
            better = evenness(other) > evenness(first)
            rows = [each.log_weights.reshape(-1, PARTICLES) for each in (other, first)]
            first = first._replace(log_weights=torch.where(better, *rows).flatten())
        return first

    monkeypatch.setattr(rounds, "forward", most_even)
    assert errors_from_one() > 4


def test_a_round_that_is_repeated_is_told_and_no_longer_unbiased(monkeypatch):
    monkeypatch.setattr(Rounds, "is_surprised", lambda plan, result: True)
    base, moves = normal_base(1), HMCMoves(num_steps=1)
    model = EnergyDistribution(narrow, ())
    found = AIS(model, base=base, moves=moves, reverse=False).run()
    assert found.details["retries"] == 1
    assert not found.unbiased
    with pytest.raises(ValueError, match="nor its last round repeated"):
        found.bounds()


def test_parts_of_a_round_are_averaged_by_size_and_their_ess_adds_up():
    betas = [0.0, 0.3, 1.0]
    large = Steps(betas, [1.0, 2.0], [3.0, 4.0], [0.5], [100.0, 90.0])
    small = Steps(betas, [5.0, 6.0], [7.0, 8.0], [0.9], [30.0, 10.0])
    found = together([large, small], [300, 100])
    assert found == Steps(betas, [2.0, 3.0], [4.0, 5.0], [0.6], [130.0, 100.0])


def test_the_ess_along_the_path_is_that_of_all_particles():
    options = {"num_particles": 1500, "reverse": False, "disable_progbar": True}
    whole = AIS(Ising.lattice((2, 2)), executor=SerialExecutor(), **options).run()
    assert whole.path["ess"][-1] == pytest.approx(whole.ess, rel=0.05)
