"""The standard energies against published and independently computed figures."""

import math
from functools import partial

import pytest
import torch

from pyro_ebm.energies import (
    Banana,
    DiagonalGaussian,
    DoubleWell,
    Funnel,
    Gaussian,
    Mixture,
    MuellerBrown,
    Phi4,
    Quartic,
    StudentT,
    Tilted,
)
from tests import oracles

tensor = partial(torch.tensor, dtype=torch.float64)
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)  # figures are given to 1e-10


# lnZ and mean of exp(-beta ((x^2 - 1)^2 + c x)), by adaptive quadrature (SciPy).
@pytest.mark.parametrize(
    ("tilt", "beta", "log_z", "mean"),
    [
        (0.0, 1.0, 0.6799262428937866, 0.0),
        (0.0, 3.0, 0.11400607690083994, 0.0),
        (0.5, 1.0, 0.7815348952829188, -0.39692782479442434),
        (0.5, 3.0, 0.9140229461423035, -0.8817203575357203),
        (1.0, 1.0, 1.0610549419944308, -0.702253986671551),
        (1.0, 3.0, 2.3960118352630824, -1.0514704073209988),
        (2.0, 1.0, 1.9497817742605408, -1.0255779532785236),
        (2.0, 3.0, 5.728630619263817, -1.1600711830736417),
    ],
)
def test_tilted_double_wells(tilt, beta, log_z, mean):
    well = DoubleWell(1, tilt=tensor(tilt))
    close(well.log_normalizer(1 / beta), tensor(log_z))
    close(well.mean(1 / beta), tensor([mean]))


# lnZ and <x^2> of exp(-(r x^2/2 + u x^4/4)), by adaptive quadrature (SciPy).
@pytest.mark.parametrize(
    ("r", "u", "log_z", "square"),
    [
        (1.0, 1.0, 0.6602353898558172, 0.4679199169736652),
        (-1.0, 1.0, 1.3622929093987413, 1.0417972964871558),
        (-2.0, 1.0, 2.026499833173759, 1.6654909742567603),
        (0.0, 1.0, 0.9414489344181048, 0.6759782400672846),
        (1.0, 0.1, 0.8618408487050769, 0.8175614038674938),
        (-4.0, 1.0, 4.63957532694405, 3.670683442980918),
    ],
)
def test_single_sites_of_phi4(r, u, log_z, square):
    site = Quartic(tensor(r), u)
    close(site.log_normalizer(), tensor(log_z))
    close(site.variance(), tensor(square))
    close(site.mean(), tensor(0.0))


@pytest.mark.parametrize("r", [-3.0, -0.2, 0.4, 5.0])
@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e5])
def test_sites_are_bessel_functions_at_every_temperature(r, temperature):
    truth = tensor(oracles.log_bessel_quartic(r / temperature, 1.3 / temperature))
    site = Quartic(tensor(r), 1.3)
    assert oracles.agrees(site.log_normalizer(temperature), truth, tensor(0.0))


@pytest.mark.parametrize("temperature", [1e-4, 0.01, 1.0, 100.0])
def test_a_tilt_reflects(temperature):
    right, left = (DoubleWell(1, tilt=tensor(t), barrier=3.0) for t in (-0.8, 0.8))
    close(right.log_normalizer(temperature), left.log_normalizer(temperature))
    close(right.mean(temperature), -left.mean(temperature))


def test_cold_wells_are_harmonic():
    # At T -> 0: the lower well alone, lnZ = -E/T + log(2 pi T/E'')/2.
    site = Quartic(tensor(-2.0), 1.0, 0.3)
    x = site.mean(1e-9)
    bend = -2 + 3 * x.square()
    harmonic = -site(x) / 1e-9 + 0.5 * torch.log(2 * math.pi * 1e-9 / bend)
    torch.testing.assert_close(site.log_normalizer(1e-9), harmonic, rtol=1e-9, atol=0.0)


def test_wells_too_deep_for_rejection_have_no_exact_sampler():
    assert DoubleWell(1).exact_sample((3,), temperature=1e-8) is None


def test_many_well_in_32_dimensions():
    # Noé et al. (2019), 16 pairs of exp(-x1^4 + 6 x1^2 + x1/2 - x2^2/2); lnZ by quadrature.
    many = Quartic(tensor([-12.0, 1.0] * 16), tensor([4.0, 0.0] * 16), tensor([-0.5, 0.0] * 16))
    close(many.log_normalizer(), tensor(164.69567531))


# lnZ of (1 + x^2/nu)^(-(nu + 1)/2) and the variance, None where infinite.
@pytest.mark.parametrize(
    ("nu", "log_z", "variance"),
    [
        (1, 1.1447298858494, None),
        (2, 1.0397207708399179, None),
        (3, 1.0008888496235095, 3.0),
        (5, 0.968619589054724, 1.6666666666666667),
        (10, 0.9438973521509522, 1.25),
    ],
)
def test_student_t(nu, log_z, variance):
    student = StudentT(tensor(float(nu)))
    close(student.log_normalizer(), tensor(log_z))
    assert variance is None or student.variance().item() == pytest.approx(variance)
    assert (student.variance() is None) == (variance is None)
    assert (student.mean() is None) == (nu == 1)


def test_student_t_has_no_normalizer_where_it_diverges():
    student = StudentT(3.0, torch.zeros(2))  # nu(T) = 5/T - 2
    assert student.log_normalizer(2.4) is not None
    assert student.log_normalizer(2.5) is None
    assert student.exact_sample((2,), temperature=2.5) is None
    levels = torch.tensor([1.0, 2.5])
    assert torch.func.vmap(student.log_normalizer)(levels)[1] == math.inf


# lnZ on the box at T, by quadrature.
@pytest.mark.parametrize(
    ("temperature", "log_z", "mean"),
    [
        (10.0, 11.729590530525037, (-0.5436643767755268, 1.394512228765213)),
        (15.0, 7.364853890342843, (-0.4835451642428315, 1.2881395520219696)),
        (25.0, 4.2870173851984354, (-0.39094749004606405, 1.0630682514129621)),
        (50.0, 2.6621603143542036, (-0.4524360012460207, 0.8775521430672483)),
    ],
)
def test_mueller_brown(temperature, log_z, mean):
    surface = MuellerBrown() / temperature
    rules = [oracles.interval(-2.25, 1.75), oracles.interval(-1.3, 3.1)]
    truth = oracles.moments(lambda grid: -surface(grid), rules, n=160)
    assert float(truth.log_z_error) < 1e-9
    torch.testing.assert_close(truth.log_z, tensor(log_z), rtol=1e-6, atol=0.0)
    torch.testing.assert_close(truth.mean, tensor(mean), rtol=1e-6, atol=0.0)


def test_mueller_brown_minima():
    # Müller and Brown (1979).
    minima = tensor([[-0.558, 1.442], [0.623, 0.028], [-0.050, 0.467]])
    energies = tensor([-146.6995, -108.1667, -80.7678])
    torch.testing.assert_close(MuellerBrown()(minima), energies, rtol=0.0, atol=5e-3)


# lnZ of a ring of n sites with springs of stiffness 1, by transfer matrix.
@pytest.mark.parametrize(
    ("r", "u", "log_z"),
    [(1.0, 1.0, 2.7769379198418123), (-4.0, 2.0, 15.792895006552566)],
)
def test_phi4_on_a_ring_of_eight(r, u, log_z):
    # The transfer matrix on a grid, built from the energy of a chain of two sites:
    # K(x, y) = exp(-[V(x) + V(y)]/2 - (x - y)^2/2), V from two uncoupled sites.
    pair = Phi4.lattice((2,), quadratic=tensor(r), quartic=u, periodic=False)
    alone = Phi4((1,), torch.empty(0, 2, dtype=torch.long), quadratic=tensor(r), quartic=u)
    grid = torch.linspace(-6, 6, 401, dtype=torch.float64)
    first, second = torch.meshgrid(grid, grid, indexing="ij")
    site = alone(grid.unsqueeze(-1))
    kernel = -pair(torch.stack([first, second], -1)) + 0.5 * (site.unsqueeze(0) + site.unsqueeze(1))
    values = torch.linalg.eigvalsh(kernel.exp() * (grid[1] - grid[0]))
    close(values.pow(8).sum().log(), tensor(log_z))
    # And the ring's own energy is the sum over its eight links.
    ring = Phi4.lattice((8,), quadratic=tensor(r), quartic=u)
    x = torch.randn(5, 8, dtype=torch.float64)
    links = torch.stack([x, x.roll(-1, -1)], -1)
    torch.testing.assert_close(ring(x), pair(links).sum(-1) - alone(x.unsqueeze(-1)).sum(-1))


def test_each_bond_of_a_lattice_counts_once():
    assert len(Phi4.lattice((8,)).bonds) == 8
    assert len(Phi4.lattice((8,), periodic=False).bonds) == 7
    assert len(Phi4.lattice((4, 5)).bonds) == 40
    assert len(Phi4.lattice((4, 5), periodic=False).bonds) == 31
    assert len(Phi4.lattice((2, 2)).bonds) == 4
    assert len(Phi4.lattice((1,)).bonds) == 0
    assert len(Phi4.lattice((3, 3, 3)).bonds) == 81


def test_funnel_in_ten_dimensions():
    # 0.5 log(18 pi) + 4.5 log(2 pi).
    close(Funnel(10).double().log_normalizer(), tensor(10.287997620714837))


def test_rosenbrock_is_a_banana():
    # exp(-[(1 - x)^2 + 100 (y - x^2)^2]/20).
    banana = Banana(loc=tensor(1.0), scale=tensor(0.5).sqrt(), width=tensor(0.005).sqrt()) / 20
    x = torch.randn(5, 2, dtype=torch.float64)
    rosenbrock = (1 - x[:, 0]).square() + 100 * (x[:, 1] - x[:, 0].square()).square()
    close(banana(x), rosenbrock / 20)
    close(banana.log_normalizer(), tensor(1.8378770664093453))
    close(banana.mean(), tensor([1.0, 11.0]))
    close(banana.variance(), tensor([10.0, 240.1]))


def test_a_gaussian_with_twenty_scales():
    scales = torch.logspace(-2, 0, 20, dtype=torch.float64)
    close(DiagonalGaussian(torch.zeros(20), scales).log_normalizer(), tensor(-27.672931195787463))


def test_a_correlated_gaussian():
    # Covariance rho^|i-j|: lnZ = d/2 log(2 pi) + (d - 1)/2 log(1 - rho^2).
    index = torch.arange(6, dtype=torch.float64)
    covariance = 0.8 ** (index - index.unsqueeze(-1)).abs()
    gaussian = Gaussian(torch.zeros(6).double(), covariance_matrix=covariance)
    closed = 3 * math.log(2 * math.pi) + 2.5 * math.log(1 - 0.64)
    close(gaussian.log_normalizer(), tensor(closed))


def test_forty_unnormalised_gaussians():
    # Each exp(-|x - m|^2/2) weighs 2 pi: lnZ = log(80 pi).
    means = 20 * torch.randn(40, 2, dtype=torch.float64)
    mixture = Mixture([DiagonalGaussian(mean) for mean in means], torch.zeros(40).double())
    close(mixture.log_normalizer(), tensor(5.526756520523282))


def test_a_tilted_base_has_the_known_normalizer():
    # N(0, 1) exp(-x^2/2): lnZ = -log(2)/2.
    tilted = Tilted(lambda x: 0.5 * x.square(), torch.distributions.Normal(tensor(0.0), 1.0))
    truth = oracles.moments(lambda grid: -tilted(grid[:, 0]), [oracles.whole_line], n=300)
    assert oracles.agrees(truth.log_z, tensor(-0.5 * math.log(2)), truth.log_z_error)
