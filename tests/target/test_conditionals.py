"""Sampled discrete sites: which they are, and their distributions given all else."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

import pyro_ebm as ebm
from pyro_ebm.energies.states import spin
from pyro_ebm.target import Target
from pyro_ebm.target.spread import SpreadNaN

COUNTS = torch.tensor([3.0, 0.0, 2.0, 7.0, 5.0])


def mixture():
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    with pyro.plate("n", 5):
        z = pyro.sample("z", dist.Bernoulli(p))
        pyro.sample("x", dist.Normal(3.0 * z, 1.0), obs=torch.linspace(-1.0, 4.0, 5))


def categories():
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with pyro.plate("n", 4):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
        pyro.sample("x", dist.Normal(loc[z], 1.0), obs=torch.linspace(-1.0, 2.0, 4))


def change_point():
    rate = pyro.sample("rate", dist.Gamma(2.0, 1.0).expand([2]).to_event(1))
    t = pyro.sample("t", dist.Categorical(torch.ones(5)))
    with pyro.plate("n", 5):
        later = (torch.arange(5) >= t).long()
        pyro.sample("y", dist.Poisson(rate[later]), obs=COUNTS)


def indicators_gated_by_another():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    t = pyro.sample("t", dist.Categorical(torch.ones(4)))
    with pyro.plate("n", 4):
        z = pyro.sample("z", dist.Bernoulli(0.4))
        mean = torch.where(torch.arange(4) >= t, z * a, a)
        pyro.sample("y", dist.Normal(mean, 1.0), obs=torch.ones(4))


def nested_plates():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    outer = pyro.plate("outer", 3, dim=-2)
    with outer:
        w = pyro.sample("w", dist.Bernoulli(0.3))
    with outer, pyro.plate("inner", 2, dim=-1):
        z = pyro.sample("z", dist.Bernoulli(0.2 + 0.5 * w))
        pyro.sample("y", dist.Normal(a + z, 1.0), obs=torch.arange(6.0).reshape(3, 2))


def coupled():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("n", 4):
        z = pyro.sample("z", dist.Bernoulli(0.4))
    ebm.energy_factor("f", lambda z, a: -a * (z[1:] == z[:-1]).float().sum(), z, a)


def vector():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.2, 0.5, 0.7, 0.4])).to_event(1))
    with pyro.plate("n", 3):
        pyro.sample("y", dist.Normal(a * z[1:] + z[:-1], 1.0), obs=torch.ones(3))


def image():
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    energy = ebm.Ising.lattice((3, 4), periodic=False)
    s = pyro.sample("s", ebm.EnergyDistribution(energy, temperature=2.0))
    y = torch.linspace(-1.0, 1.0, 12).reshape(3, 4)
    pyro.sample("y", dist.Normal(s, sigma).to_event(2), obs=y)


def unknown_energy():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    site = ebm.EnergyDistribution(lambda x: x.prod() - x.sum(), (3,), support=spin)
    s = pyro.sample("s", site)
    pyro.sample("y", dist.Normal(s * a, 1.0).to_event(1), obs=torch.ones(3))


def whole_numbers():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    levels = constraints.integer_interval(-1, 2)
    s = pyro.sample(
        "s", ebm.EnergyDistribution(lambda x: 1.0 * x.square().sum(), (3,), support=levels)
    )
    pyro.sample("y", dist.Normal(s * a, 1.0).to_event(1), obs=torch.ones(3))


def several_kinds():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Binomial(3, torch.tensor(0.4)))
    with pyro.plate("n", 2):
        h = pyro.sample("h", dist.OneHotCategorical(torch.tensor([0.2, 0.3, 0.5])))
        pyro.sample("y", dist.Normal(a + b * h[..., 1], 1.0), obs=torch.tensor([0.5, 2.0]))


def a_chain():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    previous = torch.tensor(0.0)
    for i in range(4):
        z = pyro.sample(f"z{i}", dist.Bernoulli(0.2 + 0.6 * previous))
        pyro.sample(f"y{i}", dist.Normal(a * z, 1.0), obs=torch.tensor(float(i)))
        previous = z


def part_summed_out():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    w = pyro.sample("w", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
    with pyro.plate("n", 3):
        z = pyro.sample("z", dist.Bernoulli(0.2 + 0.5 * w))
    ebm.energy_factor("f", lambda z, a: -a * (z[1:] == z[:-1]).float().sum(), z, a)


def masked_and_scaled():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with pyro.plate("n", 4), pyro.poutine.scale(scale=0.5):
        z = pyro.sample("z", dist.Bernoulli(0.3))
        with pyro.poutine.mask(mask=torch.tensor([True, False, True, True])):
            pyro.sample("y", dist.Normal(a * z, 1.0), obs=torch.arange(4.0))


def discrete_alone():
    with pyro.plate("n", 3):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
    pyro.sample("y", dist.Normal(z.to(torch.float32).sum(), 1.0), obs=torch.tensor(2.0))


def gated_outside_of_plates():
    """Which spin a datum depends on is for another site to say, by a condition and by an index."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    t = pyro.sample("t", dist.Categorical(torch.ones(4)))
    energy = ebm.Ising.lattice((4, 1), periodic=False)
    s = pyro.sample("s", ebm.EnergyDistribution(energy, temperature=2.0))[:, 0]
    where = torch.where(torch.arange(4) < t, s * a, a).square()
    pyro.sample("y", dist.Normal(where, 1.0).to_event(1), obs=torch.ones(4))


def picked_outside_of_plates():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    t = pyro.sample("t", dist.Categorical(torch.ones(4)))
    energy = ebm.Ising.lattice((4, 1), periodic=False)
    s = pyro.sample("s", ebm.EnergyDistribution(energy, temperature=2.0))[:, 0]
    pyro.sample("y", dist.Normal(a * s[t], 1.0), obs=torch.tensor(0.5))


def labels():
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    energy = ebm.Potts.lattice((2, 2), num_states=3, periodic=False)
    s = pyro.sample("s", ebm.EnergyDistribution(energy))
    with pyro.plate("row", 2, dim=-2), pyro.plate("column", 2, dim=-1):
        pyro.sample("y", dist.Normal(mu[s.long()], 1.0), obs=torch.tensor([[1.0, 0.0], [2.0, 1.0]]))


def supports_in_a_plate():
    with pyro.plate("n", 3):
        z = pyro.sample("z", dist.Bernoulli(0.3))
        u = pyro.sample("u", dist.Uniform(-z, 1.0 + 9.0 * z))
        pyro.sample("y", dist.Normal(u, 1.0), obs=torch.ones(3))


def support_of_a_vector():
    k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.3, 0.2])))
    upper = (1.0 + k) * torch.ones(4)
    pyro.sample("u", dist.Uniform(torch.zeros(4), upper).to_event(1))


# Models by name, with what is asked to be sampled and how many blocks there are.
CASES: dict[str, tuple[Callable, dict[str, str], int]] = {
    "mixture": (mixture, {"z": "sample"}, 1),
    "categories": (categories, {"z": "sample"}, 1),
    "change point": (change_point, {"t": "sample"}, 1),
    "gated": (indicators_gated_by_another, {"z": "sample", "t": "sample"}, 2),
    "nested plates": (nested_plates, {"z": "sample", "w": "sample"}, 2),
    "coupled": (coupled, {"z": "sample"}, 4),
    "vector": (vector, {}, 2),
    "image": (image, {}, 2),
    "unknown energy": (unknown_energy, {}, 3),
    "whole numbers": (whole_numbers, {}, 3),
    "several kinds": (several_kinds, {"b": "sample", "h": "sample"}, 2),
    "a chain": (a_chain, {f"z{i}": "sample" for i in range(4)}, 2),
    "part summed out": (part_summed_out, {"z": "sample"}, 3),
    "masked and scaled": (masked_and_scaled, {"z": "sample"}, 1),
    "gated outside of plates": (gated_outside_of_plates, {"t": "sample"}, 3),
    "picked outside of plates": (picked_outside_of_plates, {"t": "sample"}, 5),
    "labels": (labels, {}, 4),
    "supports in a plate": (supports_in_a_plate, {"z": "sample"}, 1),
    "support of a vector": (support_of_a_vector, {"k": "sample"}, 1),
    "discrete alone": (discrete_alone, {}, 3),
}


def frozen(case: str) -> Target:
    model, discrete, _ = CASES[case]
    return Target.freeze(model, (), {}, discrete=discrete)


def positions_of(target: Target, number: int) -> Tensor:
    return target.initial_positions(number, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("case", CASES)
def test_conditionals_are_differences_of_the_log_density(case: str):
    target = frozen(case)
    found, start = target.conditionals, target.continuous_dim
    positions = positions_of(target, 5)
    states = [len(s.states) for s in target.sites if s.states is not None for _ in range(s.size)]
    for unit, number in enumerate(states):
        logits = found(positions, found.blocks[unit].expand(5))[unit]
        assert bool((logits[number:] == -torch.inf).all())
        moved = []
        for k in range(number):
            position = positions.clone()
            position[start + unit] = k
            moved.append(target._batched(position)[0])
        right = torch.stack(moved)
        torch.testing.assert_close(
            logits[:number].log_softmax(0), right.log_softmax(0), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("case", CASES)
def test_units_that_share_no_term_are_drawn_together(case: str):
    assert frozen(case).conditionals.num_blocks == CASES[case][2]


@pytest.mark.parametrize("case", CASES)
def test_states_have_no_gradient_and_continuous_coordinates_have_theirs(case: str):
    target = frozen(case)
    positions = positions_of(target, 3)
    _, gradient = target.log_density_and_gradient(positions)
    dim = target.continuous_dim
    assert not bool(gradient[dim:].any())
    for i in range(dim):
        step = torch.zeros_like(positions)
        step[i] = 1e-2
        up, down = (target.log_density_and_gradient(positions + s)[0] for s in (step, -step))
        torch.testing.assert_close(gradient[i], (up - down) / 2e-2, rtol=2e-2, atol=2e-2)


def test_a_position_holds_states_and_gives_values_of_their_own_dtype():
    target = frozen("several kinds")
    values = target.constrain(positions_of(target, 6).T)
    assert values["b"].dtype == torch.float32
    assert values["b"].shape == (6,)
    assert values["h"].shape == (6, 2, 3)
    assert bool((values["h"].sum(-1) == 1).all())
    assert frozen("categories").constrain(torch.zeros(7))["z"].dtype == torch.long
    spins = frozen("image")
    assert set(spins.constrain(positions_of(spins, 4).T)["s"].unique().tolist()) == {-1.0, 1.0}


def test_nan_reaches_what_depends_on_it_or_is_said_to_be_lost():
    x = torch.tensor([torch.nan, 1.0])
    with SpreadNaN() as spread:
        chosen = torch.where(torch.tensor([False, True]), x, torch.zeros(2))
        filled = x.masked_fill(torch.tensor([True, False]), 0.0)
        powers = torch.pow(x, torch.zeros(2))
        added = (x[:, None] * torch.zeros(2, 2)).sum(1)
    for found in (chosen, filled, powers, added):
        assert found.isnan().tolist() == [True, False]
    assert not spread.lost
    for swallow in (lambda: x > 0, lambda: x[torch.tensor([1])], lambda: x.clone().clamp_(0, 1)):
        with SpreadNaN() as spread:
            swallow()
        assert spread.lost


def test_values_go_back_to_states():
    target = frozen("several kinds")
    positions = positions_of(target, 6).T
    values = target.constrain(positions)
    torch.testing.assert_close(target.unconstrain({**values, "a": positions[:, 0]}), positions)
    with pytest.raises(ValueError, match="discrete site 'b' of shape"):
        target.unconstrain({**values, "a": positions[:, 0], "b": torch.full((6,), 7.0)})


def test_sites_are_summed_out_where_that_can_be_done():
    target = Target.freeze(mixture, (), {}, discrete={})
    assert target.marginalised == ("z",)
    assert target.sampled == ()
    assert target.why_sampled == {}


def test_sites_that_meet_an_energy_across_their_plate_are_sampled_and_it_is_told():
    with pytest.warns(UserWarning, match="discrete site 'z' is sampled, not summed out: it meets"):
        target = Target.freeze(coupled, (), {}, discrete={})
    assert target.sampled == ("z",)
    with pytest.raises(ValueError, match="At factor 'f'"):
        Target.freeze(coupled, (), {}, discrete={"z": "marginalise"})


def test_only_those_are_sampled_that_have_to_be():
    def both():
        coupled()
        with pyro.plate("m", 3):
            w = pyro.sample("w", dist.Bernoulli(0.4))
            pyro.sample("x", dist.Normal(w, 1.0), obs=torch.ones(3))

    with pytest.warns(UserWarning, match="'z' is sampled"):
        target = Target.freeze(both, (), {}, discrete={})
    assert target.sampled == ("z",)
    assert target.marginalised == ("w",)


def test_sites_whose_joint_table_is_large_are_sampled():
    def many():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        total = torch.tensor(0.0)
        for i in range(30):
            total = total + pyro.sample(f"z{i}", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(total + a, 1.0), obs=torch.tensor(9.0))

    with pytest.warns(UserWarning, match="joint table of what it meets is large"):
        target = Target.freeze(many, (), {}, discrete={})
    assert len(target.sampled) == 30


def test_an_energy_that_captures_a_discrete_site_has_it_sampled():
    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        z = pyro.sample("z", dist.Categorical(torch.ones(3)))
        where = torch.arange(3.0)[z]
        ebm.energy_factor("f", lambda a: (a - where).square(), a)

    target = Target.freeze(model, (), {}, discrete={})
    assert target.sampled == ("z",)
    assert "captures" in target.why_sampled["z"]
    with pytest.raises(ValueError, match="cannot be summed out"):
        Target.freeze(model, (), {}, discrete={"z": "marginalise"})


def test_what_the_user_says_is_done_or_refused():
    with pytest.raises(ValueError, match="discrete latent sites of the model are"):
        Target.freeze(mixture, (), {}, discrete={"p": "sample"})
    with pytest.raises(ValueError, match='takes "sample" or "marginalise"'):
        Target.freeze(mixture, (), {}, discrete={"z": "enumerate"})
    with pytest.raises(ValueError, match="cannot be summed out"):
        Target.freeze(vector, (), {}, discrete={"z": "marginalise"})


def test_states_without_end_are_refused_with_the_ways_out():
    def model():
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        n = pyro.sample("n", dist.Poisson(rate))
        pyro.sample("y", dist.Normal(n, 1.0), obs=torch.tensor(3.0))

    with pytest.raises(ValueError, match="'n' \\(Poisson\\) has no finite number of states"):
        Target.freeze(model, (), {}, discrete={})


def test_elements_of_a_plate_that_look_at_each_other_are_refused():
    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("n", 4):
            z = pyro.sample("z", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(a + z + 2.0 * z.flip(-1), 1.0), obs=torch.ones(4))

    target = Target.freeze(model, (), {}, discrete={"z": "sample"})
    with pytest.raises(ValueError, match="in the plate 'n' are not independent"):
        _ = target.conditionals


def test_without_sampling_discrete_sites_that_cannot_be_summed_out_are_refused():
    with pytest.raises(ValueError, match=r"cannot be enumerated.*samples it"):
        Target.from_model(vector)
