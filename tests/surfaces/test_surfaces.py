"""log Z as a function of parameters: against enumeration, closed forms, and within a posterior."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import pyro_ebm as ebm
from pyro_ebm.surfaces import checks

# Sums over all 2^21 graphs of seven nodes, at (edges, two-stars, triangles).
SEVEN_NODES = {
    (-1.0, 0.1, 0.0): 7.5644928014053185,
    (-1.0, 0.0, 0.5): 7.162734722912395,
    (-2.0, 0.3, 0.2): 3.7662505647373568,
}


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(4)
    yield
    torch.set_default_dtype(before)


def torus(x, coupling, field):
    bonds = (x * x.roll(1, -1)).sum() + (x * x.roll(1, -2)).sum()
    return -coupling * bonds - field * x.sum()


def ring(x, coupling):
    return -coupling * (x * x.roll(1, -1)).sum()


def graph(x, edges, two_stars, triangles):
    energy = ebm.ExponentialRandomGraph(7, edges=edges, two_stars=two_stars, triangles=triangles)
    return energy(x)


def test_a_list_gives_the_log_z_of_a_lattice_with_its_gradient():
    log_z = ebm.listed_log_normalizer(torus, 2, event_shape=(3, 4), support=ebm.spin)
    at = [torch.tensor([0.3, -0.2], requires_grad=True), torch.tensor([0.1, 0.5])]
    found = log_z(*at, 2.0)
    for number in range(2):
        lattice = ebm.Ising.lattice((3, 4), at[0][number].detach(), at[1][number])
        right = float(lattice.log_normalizer(2.0))
        assert float(found[number].detach()) == pytest.approx(right, abs=1e-10)
    (gradient,) = torch.autograd.grad(found.sum(), at[0])
    step = 1e-5
    ends = [log_z(at[0].detach() + sign * step, at[1], 2.0) for sign in (1, -1)]
    assert torch.allclose(gradient, (ends[0] - ends[1]) / (2 * step), atol=1e-7)


@pytest.mark.slow
def test_a_list_of_two_million_graphs_is_right():
    log_z = ebm.listed_log_normalizer(graph, 3, event_shape=(21,), support=constraints.boolean)
    assert len(log_z.log_counts) < 10_000
    for params, right in SEVEN_NODES.items():
        assert float(log_z(*params, 1.0)) == pytest.approx(right, abs=1e-9)


def test_an_energy_that_is_not_linear_is_not_listed():
    with pytest.raises(ValueError, match="linear in its 1 params"):
        ebm.listed_log_normalizer(lambda x, a: ring(x, a**2), 1, event_shape=(4,), support=ebm.spin)
    with pytest.raises(ValueError, match=r"2\^22"):
        ebm.listed_log_normalizer(ring, 1, event_shape=(30,), support=ebm.spin)


def rarely_quadratic(x, a):
    return -a * x.sum() - 10 * a**2 * (x.sum() == 12)


def test_one_configuration_that_is_not_linear_is_enough_to_refuse_a_list():
    kind = {"event_shape": (12,), "support": constraints.boolean}
    with pytest.raises(ValueError, match="linear in its 1 params"):
        ebm.listed_log_normalizer(rarely_quadratic, 1, **kind)


def test_configurations_that_are_ruled_out_are_left_out_of_a_list():
    kind = {"event_shape": (10,), "support": constraints.boolean}

    def not_all(x, c):
        return torch.where(x.sum() == 10, torch.inf, -c * x.sum())

    log_z = ebm.listed_log_normalizer(not_all, 1, **kind)
    right = torch.log((1 + torch.tensor(0.3).exp()) ** 10 - torch.tensor(3.0).exp())
    assert float(log_z(0.3, 1.0)) == pytest.approx(float(right), abs=1e-10)


@pytest.mark.parametrize(
    ("energy", "said"),
    [
        (lambda x, c: torch.where(x.sum() == 3, torch.nan, c * x.sum()), "finite"),
        (lambda x, c: torch.where(x.sum() == 3, -torch.inf, c * x.sum()), "finite"),
        (lambda x, c: torch.where(x.sum() == 3, torch.inf * (c - 0.5), c * x.sum()), "rules"),
        (lambda x, c: torch.inf * (1 + c.square() + x.sum()), "finite energy"),
    ],
    ids=["nan", "minus infinity", "a wall that moves", "walls alone"],
)
def test_a_list_refuses_energies_that_are_no_numbers(energy, said):
    with pytest.raises(ValueError, match=said):
        ebm.listed_log_normalizer(energy, 1, event_shape=(4,), support=constraints.boolean)


def test_params_of_a_list_may_be_whole_numbers():
    log_z = ebm.listed_log_normalizer(torus, 2, event_shape=(3, 4), support=ebm.spin)
    whole = [torch.tensor(number) for number in (1, 0, 2)]
    assert float(log_z(*whole)) == pytest.approx(float(log_z(1.0, 0.0, 2.0)))
    assert float(log_z.at(1.0, 0.5)(2.0)) == float(log_z(1.0, 0.5, 2.0))


def test_a_surface_is_right_within_its_error():
    surface = ebm.log_normalizer_surface(
        torus, [0.0, -0.1], [0.3, 0.2], event_shape=(3, 4), support=ebm.spin, degree=4
    )
    assert surface.reliable, surface.why
    exact = ebm.listed_log_normalizer(torus, 2, event_shape=(3, 4), support=ebm.spin)
    points = torch.rand(50, 2) * 0.3 + torch.tensor([0.0, -0.1])
    columns = points.unbind(-1)
    middle = (torch.tensor(0.15), torch.tensor(0.05))
    off = surface(*columns, 1.0) - exact(*columns, 1.0)
    off_at_middle = surface(*middle, 1.0) - exact(*middle, 1.0)
    # What a posterior feels are differences.
    ratio = (off - off_at_middle) / surface.std_error(*columns)
    assert float(ratio.abs().median()) < 1.5
    assert float(ratio.abs().max()) < 5
    assert float(off_at_middle.abs()) < 4 * float(surface.covariance[0, 0].sqrt())
    assert surface.max_error < 0.3
    assert "within" in str(surface)


def test_a_surface_of_too_low_a_degree_is_not_reliable():
    surface = ebm.log_normalizer_surface(
        ring, [-2.0], [2.0], event_shape=(24,), support=ebm.spin, degree=2, num_sweeps=100
    )
    assert not surface.reliable
    assert "raise degree" in surface.why


SITES = 120


def two_phases(x, a):
    """Sparse below a = 3.08, dense above, and chains do not get from one to the other."""
    total = x.sum()
    return 3 * total - a * total**3 / SITES**2


def test_a_polynomial_is_not_reliable_where_chains_from_far_apart_do_not_meet():
    surface = ebm.log_normalizer_surface(
        two_phases,
        [2.2],
        [3.12],
        event_shape=(SITES,),
        support=constraints.boolean,
        degree=3,
        num_chains=4,
        num_sweeps=40,
    )
    assert not surface.reliable


def test_chains_may_begin_at_a_configuration_too():
    kind = {"event_shape": (4,), "support": ebm.spin, "degree": 2, "num_sweeps": 20}
    start = torch.tensor([1.0, -1.0, 1.0, -1.0])
    surface = ebm.log_normalizer_surface(ring, [0.0], [0.4], start=start, **kind)
    exact = ebm.listed_log_normalizer(ring, 1, event_shape=(4,), support=ebm.spin)
    assert abs(float(surface(0.3, 1.0) - exact(0.3, 1.0))) < 0.5
    with pytest.raises(ValueError, match="expected start"):
        ebm.log_normalizer_surface(ring, [0.0], [0.4], start=0.5 * start, **kind)


@pytest.mark.parametrize("degree", [None, 2])
def test_a_matrix_in_single_precision_gets_a_surface(degree):
    torch.set_default_dtype(torch.float32)
    couplings = torch.ones(4, 4)

    def energy(x, c):
        return -c * (x @ couplings @ x)

    surface = ebm.log_normalizer_surface(
        energy,
        [0.0],
        [0.1],
        event_shape=(4,),
        support=ebm.spin,
        degree=degree,
        num_chains=4,
        num_sweeps=20,
    )
    exact = ebm.listed_log_normalizer(energy, 1, event_shape=(4,), support=ebm.spin)
    assert abs(float(surface(0.05, 1.0) - exact(0.05, 1.0))) < 0.3


def observed(x, log_normalizer, built):
    coupling = pyro.sample("coupling", dist.Uniform(0.0, 1.0))
    if built:
        energy = ebm.Ising.lattice((24,), coupling)
        fn = ebm.EnergyDistribution(energy, log_normalizer=log_normalizer.at(coupling))
    else:
        fn = ebm.EnergyDistribution(
            ring, (24,), support=ebm.spin, params=(coupling,), log_normalizer=log_normalizer
        )
    pyro.sample("x", fn, obs=x)


@pytest.mark.parametrize("built", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_nuts_samples_the_posterior_on_a_surface(built):
    x = torch.ones(24)
    x[5:9] = -1.0
    x[15] = -1.0
    surface = ebm.log_normalizer_surface(
        ring, [0.0], [1.0], event_shape=(24,), support=ebm.spin, degree=6, num_sweeps=200
    )
    mcmc = ebm.MCMC(ebm.NUTS(observed), num_samples=150, num_chains=16, disable_progbar=True)
    mcmc.run(x, surface, built)
    draws = mcmc.get_samples()["coupling"]
    grid = torch.linspace(0, 1, 2001)
    log_z = torch.logaddexp(24 * (2 * grid.cosh()).log(), 24 * (2 * grid.sinh()).log())
    weights = (-ring(x, grid) - log_z).softmax(0)
    mean = float((weights * grid).sum())
    sd = float((weights * (grid - mean).square()).sum().sqrt())
    # Of the surface's error and of some 700 effective draws.
    assert abs(float(draws.mean()) - mean) < 4 * sd * (1 / 700 + surface.max_error**2) ** 0.5
    assert float(draws.std()) == pytest.approx(sd, rel=0.15)


@pytest.fixture(scope="module")
def small():
    pyro.set_rng_seed(1)
    return ebm.log_normalizer_surface(
        ring, [0.0], [1.0], event_shape=(4,), support=ebm.spin, degree=3, num_sweeps=20
    )


def test_the_density_is_zero_outside_of_the_box(small):
    assert float(small(1.1, 1.0)) == float("inf")
    assert float(small.std_error(-0.1)) == float("inf")


def test_a_fixed_temperature_may_be_a_tensor(small):
    assert float(small(0.5, torch.tensor(1.0))) == float(small(0.5, 1.0))
    with pytest.raises(ValueError, match="the temperature 1"):
        small(0.5, torch.tensor(2.0))


def test_what_a_surface_cannot_follow_is_refused(small):
    with pytest.raises(ValueError, match="the temperature 1"):
        small(0.5, 2.0)
    with pytest.raises(TypeError, match="1 params"):
        small(0.5, 0.5, 1.0)


@pytest.mark.parametrize(
    ("low", "high", "options", "said"),
    [
        ([1.0], [0.0], {}, "low below high"),
        ([0.0], [1.0, 2.0], {}, "1 and 2"),
        ([0.0] * 5, [1.0] * 5, {}, "one to 4"),
        ([0.0], [1.0], {"num_chains": 2}, "num_chains"),
        ([0.0], [1.0], {"num_sweeps": 5}, "num_sweeps to be a whole number of at least 20"),
        ([0.0], [1.0], {"degree": 0}, "degree to be a whole number of at least 1"),
        ([0.0], [1.0], {"temperature": -1.0}, "positive temperature"),
        ([0.0], [1.0], {"support": constraints.real}, "finitely many states"),
    ],
)
def test_bad_boxes_are_refused(low, high, options, said):
    with pytest.raises(ValueError, match=said):
        ebm.log_normalizer_surface(
            ring, low, high, **{"event_shape": (4,), "support": ebm.spin, **options}
        )


def test_what_is_no_box_is_refused():
    for wrong in (["a"], None, "ab"):
        with pytest.raises(TypeError, match="low to be a number for each param, such as"):
            checks.bounds("low", wrong)
    with pytest.raises(TypeError, match="temperature to be a number, got 'a'"):
        checks.number("temperature", "a")


def test_a_number_of_params_that_the_energy_does_not_take_is_refused():
    kind = {"event_shape": (4,), "support": ebm.spin}
    with pytest.raises(ValueError, match="expected num_params to be a whole number of at least 0"):
        ebm.listed_log_normalizer(ring, -1, **kind)
    with pytest.raises(TypeError, match=r"and 2 params, got function that takes \(x, coupling\)"):
        ebm.log_normalizer_surface(ring, [0.0] * 2, [1.0] * 2, **kind)


@pytest.mark.parametrize(
    "energy",
    [ring, ebm.as_energy(ring, event_shape=(4,), support=ebm.spin), ebm.Ising.lattice((4,))],
    ids=["function", "FunctionEnergy", "Ising"],
)
def test_an_energy_of_another_number_of_params_is_not_listed(energy):
    kind = {} if isinstance(energy, ebm.Energy) else {"event_shape": (4,), "support": ebm.spin}
    with pytest.raises(TypeError, match="a configuration and 2 params, got"):
        ebm.listed_log_normalizer(energy, 2, **kind)


def rows_of_three(x, first, alike):
    """Of one-hot rows."""
    return -first * x[..., 0].sum() - alike * (x[1:] * x[:-1]).sum()


@pytest.mark.parametrize("degree", [None, 6])
def test_one_hot_rows_have_a_surface(degree):
    kind = {"event_shape": (4, 3), "support": constraints.one_hot}
    low, high = [-0.5, -0.5], [0.5, 0.5]
    surface = ebm.log_normalizer_surface(
        rows_of_three, low, high, degree=degree, num_chains=8, num_sweeps=120, **kind
    )
    assert isinstance(surface, ebm.CountedSurface) == (degree is None)
    exact = ebm.listed_log_normalizer(rows_of_three, 2, **kind)
    points = torch.tensor([[-0.4, 0.3], [0.0, 0.0], [0.5, 0.45]]).unbind(1)
    off = surface(*points, 1.0) - exact(*points, 1.0)
    assert (off.abs() < 5 * surface.max_error).all(), (off, surface.max_error)
    assert surface.max_error < 0.1


def test_a_start_that_is_not_used_is_told():
    kind = {"event_shape": (4, 3), "support": constraints.one_hot, "num_chains": 4}
    start = torch.eye(3)[[0, 1, 2, 0]]
    few = {"num_sweeps": 20, "start": start, **kind}
    with pytest.warns(UserWarning, match="start= is not used"):
        ebm.log_normalizer_surface(rows_of_three, [0.0] * 2, [0.1] * 2, **few)
    ebm.log_normalizer_surface(rows_of_three, [0.0] * 2, [0.1] * 2, degree=1, **few)
    with pytest.raises(ValueError, match="start to be a configuration"):
        ebm.log_normalizer_surface(
            rows_of_three, [0.0] * 2, [0.1] * 2, **{**few, "start": 2 * start}
        )
