"""Energies across temperatures, against exact curves."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pyro_ebm as ebm


def exact(energy: ebm.Energy, temperatures: Tensor) -> dict[str, np.ndarray]:
    """What follows from log Z as a function of temperature, by its derivatives."""
    beta = (1.0 / temperatures).requires_grad_()
    log_z = energy.log_normalizer(1.0 / beta)
    assert log_z is not None
    (slope,) = torch.autograd.grad(log_z.sum(), beta, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), beta)
    t = temperatures
    return {
        name: values.detach().numpy()
        for name, values in {
            "log_z": log_z,
            "free_energy": -t * log_z,
            "internal_energy": -slope,
            "entropy": -slope / t + log_z,
            "heat_capacity": curvature / t**2,
        }.items()
    }


def scores(found, known):
    return {
        name: (found[name].values - values) / found[f"{name}_error"].values
        for name, values in known.items()
    }


@pytest.fixture(autouse=True)
def _doubles():
    torch.set_default_dtype(torch.float64)


def test_a_torus_of_spins_across_its_transition():
    torch.manual_seed(2)
    energy = ebm.Ising.lattice((4, 3))
    temperatures = torch.linspace(1.5, 3.5, 5)
    found = ebm.thermodynamics(energy, temperatures, num_ladders=16)
    known = exact(energy, temperatures)
    for name, score in scores(found, known).items():
        assert np.abs(score).max() < 4.5, name
    assert found.log_z_error.max() < 0.15
    assert found.attrs["k_B"] == 1
    assert found.attrs["reliable"] == 1
    assert found.entropy.attrs["units"] == "k_B"
    for k in (0, 2, 4):
        mean = ebm.exact_enumeration(
            energy, float(temperatures[k]), observable=lambda x: x.flatten(1).mean(1).abs()
        ).observable
        off = float(found.magnetization[k]) - float(mean)
        assert abs(off) < 4.5 * float(found.magnetization_error[k])
    assert found.binder_cumulant[0] == pytest.approx(2 / 3, abs=0.02)
    assert set(found.sizes) == {"temperature"}
    # The identities hold of the estimates themselves.
    t = found.temperature
    np.testing.assert_allclose(found.free_energy, -t * found.log_z)
    np.testing.assert_allclose(found.entropy, (found.internal_energy - found.free_energy) / t)


def test_a_frustrated_triangle_has_six_ground_states():
    torch.manual_seed(3)
    triangle = ebm.Ising(-(torch.ones(3, 3) - torch.eye(3)))
    cold = 0.05
    found = ebm.thermodynamics(triangle, [cold, 1.0, 100.0], num_sweeps=64)
    assert float(found.log_z[0]) == pytest.approx(1.0 / cold + math.log(6), abs=0.1)
    assert float(found.entropy[0]) == pytest.approx(math.log(6), abs=0.1)
    assert float(found.entropy[2]) == pytest.approx(3 * math.log(2), abs=0.05)
    assert abs(float(found.heat_capacity[0])) < 1e-3


def test_spins_without_couplings_have_n_log_two():
    torch.manual_seed(3)
    free = ebm.Ising(torch.zeros(3, 3))
    found = ebm.thermodynamics(free, [0.3, 10.0], num_ladders=8, num_sweeps=32)
    assert found.log_z.values == pytest.approx(3 * math.log(2))
    assert found.entropy.values == pytest.approx(3 * math.log(2))
    assert found.internal_energy.values == pytest.approx(0.0)


def test_oscillators_have_the_heat_capacity_of_equipartition():
    torch.manual_seed(4)
    stiff = torch.tensor([1.0, 4.0, 25.0])
    energy = ebm.as_energy(lambda x: 0.5 * (stiff * x.square()).sum(), event_shape=(3,))
    temperatures = torch.tensor([0.5, 1.0, 2.0])
    found = ebm.thermodynamics(
        energy,
        temperatures,
        observables={"first": lambda x: x[:, 0].square()},
        num_sweeps=96,
        num_ladders=16,
    )
    log_z = 0.5 * torch.log(2 * math.pi * temperatures[:, None] / stiff).sum(1)
    known = {
        "log_z": log_z.numpy(),
        "internal_energy": 1.5 * temperatures.numpy(),
        "heat_capacity": np.full(3, 1.5),
        "first": temperatures.numpy(),
    }
    for name, score in scores(found, known).items():
        assert np.abs(score).max() < 4.5, name
    assert found.first_error.max() < 0.2


def test_a_model_is_tempered_as_a_whole():
    torch.manual_seed(5)

    def model(y):
        x = pyro.sample("x", dist.Normal(0.0, 2.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    y, temperatures = torch.tensor(1.5), torch.tensor([1.0, 2.0])
    found = ebm.thermodynamics(
        model, temperatures, y, observables={"mean": lambda sites: sites["x"]}, num_sweeps=64
    )
    # exp(-E/T) is a Gaussian in x of precision 1.25 / T.
    centre, constant = 1.5 / 1.25, 1.5**2 * 0.5 * (1 - 1 / 1.25) + math.log(2 * math.pi * 2.0)
    log_z = -constant / temperatures + 0.5 * torch.log(2 * math.pi * temperatures / 1.25)
    known = {"log_z": log_z.numpy(), "mean": np.full(2, centre)}
    for name, score in scores(found, known).items():
        assert np.abs(score).max() < 4.5, name


def test_seeds_repeat_and_pictures_are_drawn():
    runs = []
    for _ in range(2):
        torch.manual_seed(6)
        with pytest.warns(UserWarning, match="not reliable"):
            runs.append(
                ebm.thermodynamics(ebm.Ising.lattice((4,)), [1.0, 2.0], num_ladders=4, num_sweeps=8)
            )
    assert runs[0].identical(runs[1])
    figure = ebm.plot_thermodynamics(runs[0], exact={"entropy": [1.0, 2.0]})
    assert [axes.get_ylabel() for axes in figure.axes[:2]] == ["free energy F", "internal energy U"]
    with pytest.raises(ValueError, match="expected names among"):
        ebm.plot_thermodynamics(runs[0], names=["pressure"])


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda e: ebm.thermodynamics(e, [1.0, 0.0]), ValueError, "positive and finite, got 0.0"),
        (lambda e: ebm.thermodynamics(e, [-1.0]), ValueError, "positive and finite"),
        (lambda e: ebm.thermodynamics(e, []), ValueError, r"temperatures \[n\]"),
        (lambda e: ebm.thermodynamics(e, "cold"), TypeError, "sequence of numbers"),
        (lambda e: ebm.thermodynamics(3, [1.0]), TypeError, "an energy"),
        (lambda e: ebm.thermodynamics(ebm.Target.from_energy(e), [1.0]), TypeError, "is fixed"),
        (lambda e: ebm.thermodynamics(e, [1.0], observables=[abs]), TypeError, "name: function"),
        (
            lambda e: ebm.thermodynamics(e, [1.0], observables={"entropy": abs}),
            ValueError,
            "are taken",
        ),
        (
            lambda e: ebm.thermodynamics(
                e, [1.0], observables={"a": lambda x: x[:, 0], "a_error": lambda x: x[:, 1]}
            ),
            ValueError,
            "'a_error'.* are taken",
        ),
        (
            lambda e: ebm.thermodynamics(
                e, [1.0], observables={"entropy_error": lambda x: x[:, 0]}
            ),
            ValueError,
            "'entropy_error'.* are taken",
        ),
        (
            lambda e: ebm.thermodynamics(e, [1.0], observables={"all": lambda x: x}),
            ValueError,
            "one number for each",
        ),
        (
            lambda e: ebm.thermodynamics(ebm.as_energy(lambda x: 0.0 * x), [1.0]),
            ValueError,
            "There is no log Z",
        ),
    ],
)
def test_bad_input_is_named(make, error, said):
    with pytest.raises(error, match=said):
        make(ebm.Ising.lattice((4,)))
