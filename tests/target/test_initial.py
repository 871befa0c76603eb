"""Where chains start: each of Pyro's strategies, with and without a prior that can be sampled."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide.initialization import (
    init_to_feasible,
    init_to_generated,
    init_to_mean,
    init_to_median,
    init_to_sample,
    init_to_uniform,
    init_to_value,
)

from pyro_ebm.energies import DoubleWell
from pyro_ebm.target import Target

from . import models

VALUES = {"mu": torch.tensor(1.5), "tau": torch.tensor(0.5), "theta": torch.arange(4.0)}
STRATEGIES = {
    "uniform": init_to_uniform,
    "uniform-radius": init_to_uniform(radius=0.1),
    "feasible": init_to_feasible,
    "median": init_to_median,
    "median-samples": init_to_median(num_samples=5),
    "mean": init_to_mean,
    "sample": init_to_sample,
    "value": init_to_value(values=VALUES),
    "value-fallback": init_to_value(values={"mu": VALUES["mu"]}, fallback=init_to_sample),
    "generated": init_to_generated(generate=lambda: init_to_value(values=VALUES)),
}


def start(model: Callable, strategy: Callable, *, seed: int = 0) -> dict[str, torch.Tensor]:
    target = Target.from_model(model)
    generator = torch.Generator().manual_seed(seed)
    z = target.initial_positions(5, strategy=strategy, generator=generator)
    value, gradient = target.log_density_and_gradient(z)
    assert bool(value.isfinite().all())
    assert bool(gradient.isfinite().all())
    return target.constrain(z.T)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("model", [models.plain, models.triangle, models.nested])
def test_every_strategy_starts_at_finite_positions_and_repeats(model: Callable, strategy: Callable):
    first, again = start(model, strategy), start(model, strategy)
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_a_prior_that_cannot_be_sampled_has_starts(strategy: Callable):
    start(models.improper, strategy)


def test_strategies_start_where_they_say():
    mean = start(models.plain, init_to_mean)
    torch.testing.assert_close(mean["mu"], torch.zeros(5))
    torch.testing.assert_close(mean["tau"], torch.full((5,), (2 / torch.pi) ** 0.5))
    value = start(models.plain, STRATEGIES["value"])
    torch.testing.assert_close(value["theta"], VALUES["theta"].expand(5, 4))
    generated = start(models.plain, STRATEGIES["generated"])
    torch.testing.assert_close(generated["tau"], VALUES["tau"].expand(5))
    near = start(models.plain, STRATEGIES["uniform-radius"])
    assert bool((near["mu"].abs() <= 0.1).all())
    torch.testing.assert_close(start(models.plain, init_to_feasible)["tau"], torch.ones(5))
    assert start(models.plain, init_to_sample)["mu"].unique().numel() == 5


def test_strategies_start_energies_and_potentials_where_they_say():
    energy = Target.from_energy(DoubleWell(2))
    potential = Target.from_potential(
        lambda z: z["x"].square().sum() - z["x"].sum(),
        {"x": torch.zeros(2)},
        transforms={"x": torch.distributions.biject_to(dist.constraints.positive).inv},
    )
    there = torch.tensor([5.0, 3.0])
    for target in (energy, potential):
        for strategy in STRATEGIES.values():
            target.initial_positions(2, strategy=strategy)
        z = target.initial_positions(3, strategy=init_to_value(values={"x": there}))
        torch.testing.assert_close(target.constrain(z.T)["x"], there.expand(3, 2))
    with pytest.raises(ValueError, match="'x' lies outside"):
        potential.initial_positions(2, strategy=init_to_value(values={"x": -there}))


def test_torchs_own_random_stream_is_left_alone():
    target = Target.from_model(models.plain)
    before = torch.get_rng_state()
    for strategy in STRATEGIES.values():
        target.initial_positions(3, strategy=strategy, generator=torch.Generator())
    assert torch.equal(before, torch.get_rng_state())


def test_the_seed_of_pyro_repeats_starts():
    target = Target.from_model(models.plain)
    starts = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        starts.append(target.initial_positions(4))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_a_start_outside_of_the_support_is_refused():
    with pytest.raises(ValueError, match="support"):
        start(models.plain, init_to_value(values={"tau": torch.tensor(-1.0)}))


@pytest.mark.parametrize(
    ("value", "said"), [(torch.nan, "NaN"), (-torch.inf, "probability zero"), (torch.inf, "inf")]
)
def test_a_density_that_is_nowhere_finite_has_no_start(value: float, said: str):
    def model() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("bad", torch.where(x > 1e9, x, value))

    with pytest.raises(ValueError, match=said):
        Target.from_model(model).initial_positions(2)
