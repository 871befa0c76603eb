"""Runs over states, as users write them: answers, types, seeds, disks, diagnoses and refusals."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

import pyro_ebm as ebm
from pyro_ebm.mcmc.api.diagnosis import findings

from .spins import Cubic, Levels, Rows, glass, table_of

KERNELS: dict[str, Any] = {
    "gibbs": ebm.Gibbs,
    "gibbs in torch": lambda model: ebm.Gibbs(model, jit_compile=False),
    "gibbs with gradients": lambda model: ebm.GibbsWithGradients(model, num_steps=12),
    "path": lambda model: ebm.PathAuxiliary(model, num_steps=4),
    "langevin": lambda model: ebm.DiscreteLangevin(model, num_steps=4),
    "swendsen-wang": ebm.SwendsenWang,
}


def machine(units: int) -> ebm.BoltzmannMachine:
    generator = torch.Generator().manual_seed(2)
    upper = torch.randn(units, units, generator=generator).mul(0.8).triu(1)
    return ebm.BoltzmannMachine(upper + upper.T, torch.randn(units, generator=generator))


def restricted() -> ebm.RBM:
    """The formula of rbm20x10_scale1.5 of the reference values, six units on four."""
    i, j = torch.arange(1.0, 7.0)[:, None], torch.arange(1.0, 5.0)
    weights = 1.5 * torch.sin(1.7 * i + 0.9 * i * j)
    return ebm.RBM(weights, 0.3 * torch.cos(torch.arange(6.0)), 0.2)


MODELS = {
    "ising 4x4": lambda: ebm.EnergyDistribution(ebm.Ising.lattice((4, 4)), temperature=2.5),
    "boltzmann 12": lambda: machine(12),
    "rbm": restricted,
    "potts": lambda: ebm.Potts.lattice((3, 3), 3, coupling=0.6),
    "cubic": lambda: Cubic(torch.linspace(-1.0, 1.5, 10)),
}
RUNS = [
    (kernel, model)
    for kernel in KERNELS
    for model in MODELS
    if kernel != "swendsen-wang" or model in ("ising 4x4", "potts")
]


def run(kernel: Any, num_samples: int = 50, warmup_steps: int = 60, **options: Any) -> ebm.MCMC:
    options = {"num_chains": 8, "disable_progbar": True, **options}
    mcmc = ebm.MCMC(kernel, num_samples, warmup_steps, **options)
    mcmc.run()
    return mcmc


@pytest.mark.parametrize(("kernel", "model"), RUNS)
def test_draws_have_the_exact_expectations(kernel: str, model: str):
    mcmc = run(KERNELS[kernel](MODELS[model]()), 60, 60, num_chains=96)
    record = mcmc.record
    table = table_of(record.target)

    def features(positions: Tensor, log_density: Tensor) -> Tensor:
        """States, products of neighbours, the log density and its square."""
        states = positions.double()
        whole = torch.stack([log_density, log_density.square() / 10], -1).double()
        magnetisation = (2 * states - 1).mean(-1, keepdim=True)
        more = [magnetisation.abs(), magnetisation.square()]
        return torch.cat([states, states * states.roll(1, -1), whole, *more], -1)

    lp = record.target.evaluate(table.positions).log_density
    right = table.mean(features(table.positions, lp))
    # Chains are independent: their means say how far the whole mean may be off.
    means = features(record.positions, record.statistics["lp"]).mean(1)
    error = means.std(0) / math.sqrt(len(means))
    apart = ((means.mean(0) - right).abs() / error.clamp(min=1e-12)).max()
    assert apart < 4.8


def test_the_square_lattice_has_its_known_energy_and_magnetisation():
    # An enumeration of all 65,536 configurations at beta = 0.4 (Kaufman's formula agrees).
    energy, magnetisation = -22.06586371614958, 12.235398291546927
    mcmc = run(ebm.Gibbs(ebm.Ising.lattice((4, 4)) / 2.5), 200, num_chains=64)
    x = mcmc.get_samples(group_by_chain=True)["x"].double()
    size = x.sum((-1, -2)).abs().mean(1)
    found = -2.5 * mcmc.record.statistics["lp"].double().mean(1)
    for values, right in ((size, magnetisation), (found, energy)):
        assert abs(float(values.mean()) - right) < 4.5 * float(values.std()) / 8


@pytest.mark.parametrize(
    ("energy", "dtype", "values"),
    [
        (ebm.Ising.lattice((2, 3)), torch.float32, {-1, 1}),
        (machine(4), torch.float32, {0, 1}),
        (ebm.Potts.lattice((3,), 3), torch.int64, {0, 1, 2}),
        (Rows(2, 3), torch.float32, {0, 1}),
    ],
)
def test_values_have_the_types_that_pyro_gives_them(energy, dtype, values):
    """Spins and units are floats as a Bernoulli's, whole numbers integers as a Categorical's."""
    mcmc = run(ebm.Gibbs(energy))
    x = mcmc.get_samples()["x"]
    assert x.dtype == dtype
    assert x.shape == (400, *energy.event_shape)
    assert set(x.unique().tolist()) == values
    assert bool(energy.support.check(x).all())
    data = mcmc.to_arviz()
    stored = data.posterior["x"]
    assert stored.shape == (8, 50, *energy.event_shape)
    assert stored.dtype == np.dtype(str(dtype).removeprefix("torch."))
    right = energy(torch.from_numpy(stored.values))
    np.testing.assert_allclose(data.energies["x"].values, right.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_seed_repeats_a_run(kernel: str):
    runs = []
    for _ in range(2):
        pyro.set_rng_seed(5)
        runs += [run(KERNELS[kernel](ebm.Ising.lattice((3, 3)))) for _ in range(2)]
    draws = [each.record.positions for each in runs]
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(draws[1], draws[3])
    assert not torch.equal(draws[0], draws[1])


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_run_on_disk_goes_on_draw_for_draw(kernel: str, tmp_path: Path):
    energy = ebm.Ising.lattice((3, 3)) / 2.0
    pyro.set_rng_seed(1)
    whole = run(KERNELS[kernel](energy), 60, 40)
    pyro.set_rng_seed(1)
    run(KERNELS[kernel](energy), 25, 40, store=tmp_path / "run")
    more = ebm.MCMC.resume(tmp_path / "run", KERNELS[kernel](energy), num_samples=60)
    more.run()
    assert torch.equal(more.record.positions, whole.record.positions)
    data = ebm.from_store(tmp_path / "run")
    assert np.array_equal(data.posterior["x"].values, whole.to_arviz().posterior["x"].values)
    assert set(data.sample_stats) == set(whole.to_arviz().sample_stats)
    with pytest.raises(ValueError, match="something else"):
        ebm.MCMC.resume(tmp_path / "run", KERNELS[kernel](energy / 2.0)).run()


def test_warmup_and_sites_are_kept_where_asked_for():
    mcmc = run(ebm.Gibbs(ebm.Ising.lattice((3,))), save_warmup=True, sites=["x"], thinning=2)
    data = mcmc.to_arviz(save_warmup=True)
    assert data.warmup_posterior["x"].shape == (8, 60, 3)
    assert list(data.sample_stats) == ["lp", "acceptance_rate", "n_steps", "step_size"]


def test_a_run_starts_where_it_is_told_to():
    start = torch.tensor([1.0, -1.0, 1.0, 1.0]).expand(8, -1)
    frozen = ebm.Ising(torch.zeros(4, 4), 1e3 * start[0])
    mcmc = run(ebm.GibbsWithGradients(frozen), 4, 0, initial_params={"x": start})
    assert torch.equal(mcmc.get_samples(group_by_chain=True)["x"][:, 0], start)
    with pytest.raises(ValueError, match="outside of it"):
        run(ebm.Gibbs(frozen), initial_params={"x": 0 * start})


@pytest.mark.parametrize("kernel", ["path", "langevin"])
def test_warmup_tunes_the_acceptance_rate(kernel: str):
    mcmc = run(KERNELS[kernel](glass(60, scale=0.2)), 60, 120, num_chains=32)
    rate = float(mcmc.record.statistics["acceptance_rate"].mean())
    assert abs(rate - 0.574) < 0.08


def test_sites_that_never_move_do_not_spoil_the_diagnosis():
    fields = torch.tensor([1e4, 0.0, 0.0, 0.0, 0.0])
    mcmc = run(ebm.Gibbs(ebm.Ising.lattice((5,), coupling=0.3, field=fields)), 500)
    text = mcmc.diagnose()
    assert "All is well" in text
    assert "diverged" not in text
    assert "BFMI" not in text


def test_chains_in_two_phases_are_told():
    """At half of the critical temperature single changes do not cross from up to down."""
    pyro.set_rng_seed(0)
    mcmc = run(ebm.Gibbs(ebm.Ising.lattice((8, 8)) / 1.0), 100, 300, num_chains=16)
    assert {finding.name for finding in findings(mcmc.record)} & {"separate groups", "R-hat"}


def test_the_log_density_is_judged_beside_the_sites():
    mcmc = run(ebm.SwendsenWang(ebm.Ising.lattice((3, 3), coupling=0.3)), 400)
    assert "the log density" in mcmc.diagnose() or "x[" in mcmc.diagnose()
    figures = mcmc.diagnostics()
    assert "divergences" not in figures
    assert figures["x"]["r_hat"].shape == (3, 3)


@pytest.mark.parametrize("kernel", [ebm.NUTS, ebm.HMC, ebm.ChEESHMC])
@pytest.mark.parametrize(
    "model", [ebm.Ising.lattice((3,)), ebm.EnergyDistribution(ebm.Ising.lattice((3,)))]
)
def test_a_gradient_sampler_refuses_states_by_name(kernel, model):
    with pytest.raises(TypeError, match=rf"{kernel.__name__} moves along a gradient.*Gibbs"):
        run(kernel(model), num_chains=16)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_sampler_over_states_refuses_what_has_none(kernel: str):
    for model in (
        ebm.DoubleWell(2),
        ebm.EnergyDistribution(ebm.DoubleWell(2)),
        ebm.Target.from_energy(ebm.DoubleWell(2)),
    ):
        with pytest.raises(TypeError, match=r"continuous\. Use NUTS"):
            KERNELS[kernel](model)

    def model():
        pyro.sample("x", dist.Normal(0.0, 1.0))

    if kernel.startswith("gibbs") and "gradients" not in kernel:
        with pytest.raises(ValueError, match=r"\['x'\] are continuous. Use NUTS"):
            run(ebm.Gibbs(model))
    else:
        with pytest.raises(TypeError, match="as_energy"):
            KERNELS[kernel](model)


def test_gibbs_refuses_changes_that_are_guessed():
    target = ebm.Target.from_energy(Cubic(torch.ones(4)), exact_changes=False)
    with pytest.raises(ValueError, match="exact_changes=True"):
        run(ebm.Gibbs(target))


def test_what_a_model_would_take_is_refused():
    mcmc = ebm.MCMC(ebm.Gibbs(ebm.Ising.lattice((3,))), 10)
    with pytest.raises(TypeError, match="takes no model arguments"):
        mcmc.run(1)
    mcmc = run(ebm.Gibbs(ebm.Ising.lattice((3,))))
    with pytest.raises(ValueError, match="bare energy"):
        mcmc.predict()


def test_a_batch_of_energies_is_refused():
    batch = ebm.EnergyDistribution(ebm.Ising.lattice((3,)), batch_shape=(2,))
    with pytest.raises(ValueError, match="num_chains"):
        run(ebm.Gibbs(batch))


class Wrong(Cubic):
    """Its changes have the wrong sign."""

    def energy_changes(self, x: Tensor) -> Tensor:
        return torch.stack([x, x - 1], -1)


def test_changes_that_are_no_differences_of_the_energy_are_refused():
    with pytest.raises(ValueError, match="expected energy_changes of Wrong to be differences"):
        ebm.Target.from_energy(Wrong(torch.ones(4)))


def test_a_support_without_end_is_refused():
    energy = ebm.as_energy(
        lambda x: x.sum(), event_shape=(2,), support=constraints.nonnegative_integer
    )
    with pytest.raises(ValueError, match="finitely many states"):
        ebm.Target.from_energy(energy)


def test_a_discrete_target_has_no_gradient():
    target = ebm.Target.from_energy(ebm.Ising.lattice((3,)))
    with pytest.raises(TypeError, match="Gibbs"):
        target.log_density_and_gradient(torch.zeros(3, 1))
    with pytest.raises(TypeError, match="Use AIS"):
        ebm.bridge_sampling(run(ebm.Gibbs(target)))


def test_what_the_energy_rules_out_is_never_drawn():
    """No two neighbours of a ring may both be one."""

    def hard(x: Tensor) -> Tensor:
        return torch.where((x * x.roll(1)).sum() > 0, torch.inf, -x.sum())

    energy = ebm.as_energy(hard, event_shape=(6,), support=constraints.boolean)
    for kernel in (ebm.Gibbs, ebm.GibbsWithGradients, ebm.PathAuxiliary, ebm.DiscreteLangevin):
        mcmc = run(kernel(ebm.Target.from_energy(energy, exact_changes=True)), 100, num_chains=32)
        x = mcmc.get_samples()["x"]
        assert not bool((x * x.roll(1, -1)).any())
        assert bool(x.any())


NET = torch.nn.Sequential(torch.nn.Linear(600, 4), torch.nn.SiLU(), torch.nn.Linear(4, 1))


@pytest.mark.parametrize(
    ("model", "chosen", "why"),
    [
        (ebm.Ising.lattice((4, 4)), ebm.SwendsenWang, "attract"),
        (ebm.Potts.lattice((4, 4), 3), ebm.SwendsenWang, "attract"),
        (ebm.EnergyDistribution(ebm.Ising.lattice((3,)), temperature=2.0), ebm.SwendsenWang, ""),
        (ebm.Ising.lattice((4, 4), coupling=-1.0), ebm.Gibbs, "in C"),
        (machine(5), ebm.Gibbs, "in C"),
        (restricted(), ebm.Gibbs, "in C"),
        (ebm.Potts.lattice((4, 4), 3, coupling=-1.0), ebm.Gibbs, "2 blocks"),
        (Levels(5), ebm.Gibbs, "2 blocks"),
        (Cubic(torch.ones(100)), ebm.PathAuxiliary, "100 steps"),
        (
            ebm.as_energy(NET, event_shape=(600,), support=constraints.boolean),
            ebm.DiscreteLangevin,
            "gradient",
        ),
        (ebm.DoubleWell(2), ebm.NUTS, "continuous"),
        (lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), ebm.NUTS, "continuous"),
    ],
)
def test_auto_kernel_reads_the_structure_and_says_so(model, chosen, why):
    kernel = ebm.auto_kernel(model)
    assert type(kernel) is chosen
    assert kernel.why.startswith(chosen.__name__)
    assert why in kernel.why
    mcmc = run(kernel, 4, 25)
    assert mcmc.to_arviz().posterior.attrs["why_this_kernel"] == kernel.why


@pytest.mark.filterwarnings("ignore::pyro_ebm.draws.ApproximateSampleWarning")
@pytest.mark.parametrize("model", ["ising 4x4", "boltzmann 12", "potts"])
def test_a_distribution_over_states_can_be_drawn_from(model: str):
    energy = MODELS[model]()
    if isinstance(energy, ebm.Energy):
        energy = ebm.EnergyDistribution(energy)
    # Chains in place of an exact sampler, where there is one.
    plain = ebm.as_energy(energy.energy)
    plain.exact_sample = lambda *_, **__: None
    drawn = ebm.EnergyDistribution(plain, temperature=energy.temperature).sample((2, 150))
    assert drawn.shape == (2, 150, *energy.event_shape)
    target = ebm.Target.from_distribution(energy)
    table = table_of(target)
    lp = target.evaluate(table.positions).log_density
    found = energy.unnormalized_log_prob(drawn).double().reshape(-1)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - table.mean(lp)) < 4.5 * error


@pytest.mark.filterwarnings("ignore::pyro_ebm.draws.ApproximateSampleWarning")
def test_a_batch_of_temperatures_is_drawn_each_at_its_own():
    cold = ebm.EnergyDistribution(
        ebm.Potts.lattice((3, 3), 3), temperature=torch.tensor([0.05, 100.0])
    )
    drawn = cold.sample((200,))
    assert drawn.shape == (200, 2, 3, 3)
    equal = (drawn == drawn[..., :1, :1]).float().mean((0, 2, 3))
    assert equal[0] > 0.99
    assert equal[1] < 0.5


def test_sampling_a_discrete_energy_takes_the_kernel_that_suits_it():
    fields = torch.tensor([1e4, 0.0, 0.0, 0.0])
    energy = ebm.Ising.lattice((4,), coupling=0.3, field=fields)
    data = ebm.sample(energy, stop=ebm.UntilESS(500), num_chains=16, disable_progbar=True)
    assert data.posterior.attrs["sampler"] == "SwendsenWang"
    assert data.posterior.attrs["stopped"]
    assert bool((data.posterior["x"][..., 0] == 1).all())


def test_many_chains_share_starts_and_are_judged_together():
    mcmc = run(ebm.Gibbs(ebm.Ising.lattice((3, 3), coupling=0.2)), 60, 60, num_chains=128)
    assert "nested R-hat" in mcmc.diagnose()
    assert "All is well" in mcmc.diagnose()


def test_a_run_goes_on_from_another():
    energy = glass(20, scale=0.2)
    first = run(ebm.DiscreteLangevin(energy), 20, 80)
    second = ebm.MCMC(
        ebm.DiscreteLangevin(energy), 20, num_chains=8, warmup_from=first, disable_progbar=True
    )
    second.run()
    sizes = [each.record.statistics["step_size"][0, -1] for each in (first, second)]
    assert torch.equal(*sizes)


@pytest.mark.parametrize("kernel", ["gibbs in torch", "path", "swendsen-wang"])
def test_chains_in_batches_make_the_same_draws(kernel: str):
    draws = []
    for size in (None, 3):
        pyro.set_rng_seed(4)
        energy = ebm.Potts.lattice((3, 2), 3, coupling=0.5)
        mcmc = run(KERNELS[kernel](energy), 10, 30, num_chains=7, chain_batch_size=size)
        draws.append(mcmc.record.positions)
    assert torch.equal(*draws)


class Unconnected(Levels):
    """Levels in a row that are said not to interact."""

    @property
    def interactions(self) -> Tensor:
        return torch.zeros(0, 2, dtype=torch.long)


def test_interactions_that_an_energy_leaves_out_are_missed():
    with pytest.raises(ValueError, match="expected interactions of Unconnected to name all pairs"):
        ebm.Target.from_energy(Unconnected(4))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize(
    "use",
    [
        lambda energy: ebm.MCMC(ebm.Gibbs(energy), num_samples=5, warmup_steps=5).run(),
        lambda energy: ebm.AIS(energy, disable_progbar=True).run(),
        lambda energy: ebm.SMC(energy, disable_progbar=True).run(),
        lambda energy: ebm.minimize(energy),
    ],
    ids=["Gibbs", "AIS", "SMC", "minimize"],
)
def test_energies_of_states_are_numbers_or_rule_out(value, use):
    def energy(x):
        return torch.where(x.sum() == 3, value, x.sum())

    with pytest.raises(ValueError, match=f"got {'NaN' if math.isnan(value) else value} at"):
        use(ebm.as_energy(energy, event_shape=(3,), support=ebm.spin))
