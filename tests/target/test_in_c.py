"""A density written in C is the one that torch computes, or is not used."""

import math
import pickle
import shutil

import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.target.in_c.density import CompiledDensity, DensityInC
from pyro_ebm.target.in_c.expressions import NotInC
from pyro_ebm.target.side import NO_SIDE
from pyro_ebm.target.vectorize import value_and_gradient, vectorized
from tests.target.densities import FUNCTIONS, MODELS

DTYPES = [torch.float32, torch.float64]
pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(folder, monkeypatch):
    monkeypatch.setenv("PYRO_EBM_CACHE", str(folder))


def written(function, dim, dtype=torch.float64):
    """A function of one position in C, for up to 16 chains at a time."""

    def single(position):
        return value_and_gradient(lambda z, _: function(z), position, NO_SIDE)

    return DensityInC(single, torch.zeros(dim, dtype=dtype))


def compiled(function, dim, dtype=torch.float64, lanes=8):
    return CompiledDensity(written(function, dim, dtype)._program, lanes)


def assert_same(found, right, dtype):
    eps = torch.finfo(dtype).eps
    for mine, theirs in zip(found, right, strict=True):
        scale = theirs.nan_to_num(0.0, 0.0, 0.0).abs().max().clamp(min=1.0)
        torch.testing.assert_close(
            mine / scale, theirs / scale, rtol=0.0, atol=300 * eps, equal_nan=True
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_value_and_gradient_that_torch_gives(name, dtype):
    positions = torch.randn(6, 11, dtype=dtype)
    right = vectorized(lambda z, _: FUNCTIONS[name](z))(positions)
    assert_same(compiled(FUNCTIONS[name], 6, dtype)(positions), right, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_density_that_torch_gives(name, dtype, monkeypatch):
    torch.set_default_dtype(dtype)
    for held in ("NUMBERS", "TABLE"):
        value = getattr(__import__("tests.target.densities").target.densities, held)
        monkeypatch.setattr(f"tests.target.densities.{held}", value.to(dtype))
    target = ebm.Target.from_model(MODELS[name])
    assert target.in_c is not None
    positions = torch.randn(target.dim, 9)
    made = target.in_c.at(positions, target.log_density_and_gradient)
    assert made is not None
    assert_same(made(positions), target.log_density_and_gradient(positions), dtype)


@pytest.mark.parametrize("chains", [1, 3, 16, 33])
def test_any_number_of_chains_is_taken(chains):
    function = FUNCTIONS["logsumexp"]
    positions = torch.randn(6, chains, dtype=torch.float64)
    right = vectorized(lambda z, _: function(z))(positions)
    assert_same(compiled(function, 6)(positions), right, torch.float64)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e300])
def test_what_is_not_finite_is_so_here_too(value):
    names = ["exp", "softplus", "where", "logsumexp", "clamp", "extremes", "log_softmax"]
    positions = torch.randn(6, 4, dtype=torch.float64)
    positions[2, 1] = value
    for name in names:
        found, _ = compiled(FUNCTIONS[name], 6)(positions)
        right, _ = vectorized(lambda z, _, f=FUNCTIONS[name]: f(z))(positions)
        torch.testing.assert_close(
            found, right, equal_nan=True, msg=lambda text, n=name: f"{n} {text}"
        )


def test_long_sums_lose_no_digits():
    data = torch.rand(200_000)
    found, _ = compiled(
        lambda z: (data + z[0]).sum() + (data @ (data + 0.0 * z[0])), 1, data.dtype
    )(torch.zeros(1, 1))
    right = data.double().sum() + data.double() @ data.double()
    assert abs(float(found[0]) / float(right) - 1.0) < 3e-7


def test_large_arrays_are_made_for_fewer_chains_at_a_time(monkeypatch):
    density = written(lambda z: (z.exp().sum() * z.flip(0).cumsum(0)).sum(), 6)
    reference = vectorized(lambda z, _: (z.exp().sum() * z.flip(0).cumsum(0)).sum())
    positions = torch.randn(6, 40, dtype=torch.float64)
    memory = []
    for most in (2**28, 2**10):
        monkeypatch.setattr("pyro_ebm.target.in_c.density._MOST_MEMORY", most)
        made = density.at(positions, reference)
        assert made is not None
        assert_same(made(positions), reference(positions), torch.float64)
        memory.append(sum(part.numel() for part in made._memory))
    assert memory[1] < memory[0] / 2


def test_data_changed_in_place_are_seen():
    data = torch.ones(5, dtype=torch.float64)
    density = compiled(lambda z: (data * z).sum(), 5)
    positions = torch.ones(5, 2, dtype=torch.float64)
    assert density(positions)[0].tolist() == [5.0, 5.0]
    data.mul_(3.0)
    assert density(positions)[0].tolist() == [15.0, 15.0]


def test_an_index_that_has_come_to_lie_outside_is_an_error():
    index = torch.tensor([0, 4])
    density = compiled(lambda z: z[index].sum(), 5)
    index[1] = 5
    with pytest.raises(IndexError, match="outside"):
        density(torch.ones(5, 2, dtype=torch.float64))


def test_an_index_that_is_computed_is_looked_at_too():
    index = torch.tensor([1, 5])
    density = compiled(lambda z: z[index - 1].square().sum(), 5)
    index[1] = 7
    with pytest.raises(IndexError, match="outside"):
        density(torch.ones(5, 2, dtype=torch.float64))


def test_data_of_another_shape_are_refused():
    data = torch.ones(5, dtype=torch.float64)
    density = compiled(lambda z: (data * z).sum(), 5)
    data.data = torch.ones(7, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="another shape"):
        density(torch.ones(5, 2, dtype=torch.float64))


def changed_part(z):
    whole = z * 1.0
    whole[2:4].mul_(2.0)
    return whole.sum()


def changed_behind_a_view(z):
    whole = torch.zeros(6, dtype=z.dtype)
    seen = whole[1:]
    whole.add_(1.0)
    return (seen * z[1:]).sum()


def random(z):
    return (z * torch.rand(6, dtype=z.dtype)).sum()


@pytest.mark.parametrize(
    "function",
    [
        changed_part,
        changed_behind_a_view,
        random,
        lambda z: torch.special.i0(z).sum(),
        lambda z: z.sort().values[0],
        lambda z: z[z.argmax()],
        lambda z: z.as_strided((2,), (3,)).sum(),
        lambda z: (z + 0j).abs().sum(),
        lambda z: z.sum() if z[0] > 0 else z.prod(),
    ],
)
def test_what_has_no_counterpart_is_refused_or_right(function):
    try:
        density = compiled(function, 6)
    except NotInC:
        return
    positions = torch.randn(6, 3, dtype=torch.float64)
    assert_same(density(positions), vectorized(lambda z, _: function(z))(positions), torch.float64)


def test_a_density_that_differs_is_told_and_not_used():
    density = written(lambda z: z.square().sum(), 2)
    positions = torch.randn(2, 4, dtype=torch.float64)
    with pytest.warns(UserWarning, match="differs from what torch computes"):
        assert density.at(positions, lambda z: (z.square().sum(0) + 1e-3, 2.0 * z)) is None


def test_what_cannot_be_compiled_is_told_and_not_used(monkeypatch):
    density = written(lambda z: z.square().sum(), 2)
    monkeypatch.setenv("CC", "no_such_compiler")
    with pytest.warns(UserWarning, match="no_such_compiler"):
        assert density.at(torch.zeros(2, 4, dtype=torch.float64), lambda z: (z.sum(0), z)) is None


def test_a_second_process_would_compile_nothing(monkeypatch):
    first = compiled(FUNCTIONS["sums"], 6)
    monkeypatch.setattr("pyro_ebm.c_compiler._compile", lambda *_: pytest.fail("compiled anew"))
    again = compiled(FUNCTIONS["sums"], 6)
    positions = torch.randn(6, 3, dtype=torch.float64)
    assert torch.equal(first(positions)[1], again(positions)[1])


def test_a_target_goes_to_other_processes_without_its_code():
    target = ebm.Target.from_energy(ebm.DoubleWell(2))
    assert target.in_c is not None
    assert "in_c" not in pickle.loads(pickle.dumps(target)).__dict__


def test_runs_worth_it_are_compiled_and_repeat():
    def run(**given):
        torch.manual_seed(0)
        mcmc = ebm.MCMC(ebm.NUTS(ebm.DoubleWell(2), **given), 200, 100, num_chains=4)
        mcmc.run()
        return mcmc

    first, second = run(), run()
    assert first.to_arviz().posterior.attrs["gear"] == "compiled"
    assert torch.equal(first.get_samples()["x"], second.get_samples()["x"])
    assert run(jit_compile=False).to_arviz().posterior.attrs["gear"] == "traced"


def test_a_net_as_energy_runs_in_c():
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
    energy = ebm.Tilted(net, dist.Normal(0.0, 3.0).expand([2]).to_event(1))
    target = ebm.Target.from_energy(energy)
    assert target.in_c is not None
    positions = torch.randn(2, 5)
    made = target.in_c.at(positions, target.log_density_and_gradient)
    assert made is not None
    assert_same(made(positions), target.log_density_and_gradient(positions), torch.float32)
