"""Lattices against exact figures: Kaufman's torus, rings, strips, densities of states."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from pyro_ebm.energies import XY, Ising, Potts, exact_enumeration
from pyro_ebm.energies.couplings import LatticeCouplings

tensor = partial(torch.tensor, dtype=torch.float64)
close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-10)
CRITICAL = 0.4406867935097715  # log(1 + sqrt 2)/2


# log Z, mean and variance of the energy of the L x L torus at beta, from Kaufman's formula in 60
# digits; at L = 4 the list of all configurations gives the same.
@pytest.mark.parametrize(
    ("length", "beta", "log_z", "energy", "variance"),
    [
        (4, 0.1, 11.252588451586247, -3.2914154619945823, 34.86948645075601),
        (4, 0.3, 12.785523325713681, -13.504865177981706, 78.39869396916568),
        (4, CRITICAL, 15.521915458755284, -25.049980602213097, 64.53118558339436),
        (4, 1.0, 32.698721401879325, -31.954535044092275, 0.37455035930999214),
        (8, 0.1, 45.00679976182618, -13.016175595412811, 134.5446216662867),
        (8, 0.3, 50.609330498184775, -45.59791185101241, 221.42460471785353),
        (8, CRITICAL, 60.14178078906915, -95.46170287614122, 377.5178187521388),
        (8, 1.0, 128.71543733740842, -127.81825306307265, 1.4962921441010948),
        (16, CRITICAL, 238.6422566351329, -371.98460232025013, 1975.5864472896637),
    ],
)
def test_the_torus_has_kaufmans_figures(length, beta, log_z, energy, variance):
    torus = Ising.lattice((length, length), coupling=tensor(1.0))

    def log_partition(beta):
        return torus.log_normalizer(1 / beta)

    inverse = tensor(beta).requires_grad_()
    value = log_partition(inverse)
    close(value.detach(), tensor(log_z))
    (slope,) = torch.autograd.grad(value, inverse, create_graph=True)
    (bend,) = torch.autograd.grad(slope, inverse)
    close(-slope.detach(), tensor(energy))
    close(bend, tensor(variance), rtol=1e-9, atol=1e-9)
    if length <= 8:
        close(torus.transfer_log_normalizer(1 / beta), tensor(log_z))


@pytest.mark.parametrize("couplings", [(0.3, 0.7), (0.9, 0.2), (-0.9, 0.2), (-0.6, -0.4)])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (4, 4), (3, 5), (1, 4), (2, 5), (2, 2)])
def test_any_torus_is_the_sum_over_its_configurations(shape, couplings):
    torus = Ising.lattice(shape, coupling=tensor(couplings))
    exact = exact_enumeration(torus, tensor([0.7, 2.0]))
    close(torus.log_normalizer(tensor([0.7, 2.0])), exact.log_z)
    close(torus.transfer_log_normalizer(tensor([0.7, 2.0])), exact.log_z)


# Energies, magnetisations and how many configurations of the free 4 x 4 square have them, by
# enumeration: the lowest and the highest levels.
def test_the_free_square_has_its_density_of_states():
    square = Ising.lattice((4, 4), coupling=tensor(1.0), periodic=False)
    energies = exact_enumeration(square).energies
    levels, counts = energies.unique(return_counts=True)
    figures = dict(zip(levels.tolist(), counts.tolist(), strict=True))
    assert sum(figures.values()) == 2**16
    wanted = {-24: 2, -20: 8, -18: 32, -16: 72, 20: 8, 24: 2}
    assert {level: figures[level] for level in wanted} == wanted


# The same at three temperatures: log Z, variance of the energy and entropy, by enumeration.
@pytest.mark.parametrize(
    ("beta", "log_z", "variance", "entropy"),
    [
        (0.1, 11.211055381646567, 24.84136527847735, 10.968252510969082),
        (CRITICAL, 13.676315241392142, 36.3203976245609, 8.04805867449895),
        (1.0, 24.81764441041271, 3.3969428554224987, 1.4448124247489744),
    ],
)
def test_the_free_square_has_its_figures(beta, log_z, variance, entropy):
    square = Ising.lattice((4, 4), coupling=tensor(1.0), periodic=False)
    close(square.log_normalizer(1 / beta), tensor(log_z))
    exact = exact_enumeration(square, 1 / beta)
    close(exact.log_z, tensor(log_z))
    close(exact.energy_variance, tensor(variance))
    close(exact.entropy, tensor(entropy))


# log Z and magnetisation of the ring of n spins, by its 2 x 2 transfer matrix.
@pytest.mark.parametrize(
    ("length", "coupling", "field", "log_z", "magnetisation"),
    [
        (8, 0.5, 0.0, 6.508171117277646, 0.0),
        (8, -0.7, 0.1, 7.390511011923514, 0.023846189788439717),
        (16, 0.5, 0.2, 13.828034776392462, 0.4800903880142746),
        (1000, 1.0, 0.0, 1126.9280110429725, 0.0),
        (1000, 0.5, 0.2, 864.2521206462046, 0.48009120037931197),
    ],
)
def test_rings_have_their_closed_form(length, coupling, field, log_z, magnetisation):
    ring = Ising.lattice((length,), coupling=tensor(coupling), field=tensor(field))
    ring.fields.requires_grad_()
    value = ring.log_normalizer()
    close(value.detach(), tensor(log_z))
    (moment,) = torch.autograd.grad(value, ring.fields)
    close(moment / length, tensor(magnetisation))
    close(ring.transfer_log_normalizer().detach(), tensor(log_z))


# log Z of the three-state Potts torus by transfer matrices.
@pytest.mark.parametrize(
    ("length", "coupling", "log_z"),
    [
        (3, 0.3, 11.890007039167156),
        (3, 1.2, 22.899963743604424),
        (4, 0.8, 29.17510371203916),
        (5, 0.5, 37.31421796158695),
        (5, math.log1p(math.sqrt(3)), 52.80114560169328),
    ],
)
def test_potts_tori_have_their_figures(length, coupling, log_z):
    close(
        Potts.lattice((length, length), 3, coupling=tensor(coupling)).log_normalizer(),
        tensor(log_z),
    )


def test_two_potts_states_are_an_ising_model_at_half_the_coupling():
    potts = Potts.lattice((3, 4), 2, coupling=tensor(1.6))
    ising = Ising.lattice((3, 4), coupling=tensor(0.8))
    x = torch.randint(2, (5, 3, 4)).double()
    differences = potts(x) - ising(2 * x - 1)
    torch.testing.assert_close(differences, tensor([-0.8 * 24] * 5))
    close(potts.log_normalizer(0.9), ising.log_normalizer(0.9) + 0.8 * 24 / 0.9)


# log Z of n rotors, a ring and a chain, by Bessel functions (SciPy).
@pytest.mark.parametrize(
    ("length", "coupling", "ring", "chain"),
    [
        (4, 0.5, 7.60460124960762, 7.536157423193825),
        (4, 2.0, 11.04690328613917, 9.82348889008625),
        (8, 1.0, 16.5934796288676, 16.354417040825012),
        (16, 2.0, 42.5962263209384, 41.765936184793865),
    ],
)
def test_rotors_have_their_bessel_functions(length, coupling, ring, chain):
    for figure, periodic in ((ring, True), (chain, False)):
        rotors = XY.lattice((length,), coupling=tensor(coupling), periodic=periodic)
        close(rotors.log_normalizer(), tensor(figure))
        close(
            XY.lattice((length,), periodic=periodic).double().log_normalizer(1 / coupling),
            tensor(figure),
        )


# Angles between neighbours on a fine grid: a sum of positive terms, for three and five rotors.
@pytest.mark.parametrize("length", [3, 5])
@pytest.mark.parametrize("temperature", [2.0, 0.3, 0.05, 0.03, 0.02, 1e-3])
def test_a_frustrated_ring_of_rotors_is_its_quadrature(length, temperature):
    angle = np.arange(1024) * (2 * np.pi / 1024)
    pair = -np.cos(angle[:, None] - angle) / temperature
    chain = pair[0]  # the first rotor points one way
    for _ in range(length - 2):
        chain = logsumexp(chain[:, None] + pair, axis=0)
    wanted = logsumexp(chain + pair[0])
    wanted += length * math.log(2 * math.pi) - (length - 1) * math.log(1024)
    for dtype in (torch.float32, torch.float64):
        rotors = XY.lattice((length,), torch.tensor(-1.0, dtype=dtype))
        log_z = rotors.log_normalizer(temperature)
        torch.testing.assert_close(log_z, torch.tensor(wanted, dtype=dtype))


def test_the_energy_of_a_frustrated_ring_of_rotors_is_the_slope_of_its_log_z():
    # At low temperature all angles are pi/3 apart, with half a temperature for each of two modes.
    temperature = torch.tensor([1e-3, 2e-3], dtype=torch.float64, requires_grad=True)
    log_z = XY.lattice((3,), tensor(-1.0)).log_normalizer(temperature)
    (slope,) = torch.autograd.grad(log_z.sum(), temperature)
    energy = (temperature.square() * slope).detach()
    torch.testing.assert_close(energy, -1.5 + temperature.detach(), atol=3e-6, rtol=0)


@pytest.mark.parametrize("coupling", [1e5, -1e5, 1e9, -1e9, 1e40, -1e40])
@pytest.mark.parametrize("length", [3, 4, 5, 12, 31])
def test_cold_rings_of_rotors_are_harmonic(length, coupling):
    strength = tensor(coupling).requires_grad_()
    log_z = XY.lattice((length,), coupling=strength).log_normalizer()
    (slope,) = torch.autograd.grad(log_z, strength)
    # Angles of pi/n where all neighbours cannot be opposite, to the left or to the right.
    frustrated = coupling < 0 and length % 2 == 1
    stiffness = abs(coupling) * (math.cos(math.pi / length) if frustrated else 1.0)
    modes = 0.5 * (length - 1)
    wanted = length * stiffness + modes * math.log(2 * math.pi / stiffness)
    wanted += math.log(2 * math.pi * (2 if frustrated else 1)) - 0.5 * math.log(length)
    torch.testing.assert_close(log_z.detach(), tensor(wanted), rtol=1e-12, atol=1e-3)
    torch.testing.assert_close(
        coupling * slope, tensor(length * stiffness - modes), rtol=1e-12, atol=1e-3
    )


@pytest.mark.parametrize("length", [3, 4, 5, 7, 31])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_log_z_of_rotors_has_no_seams(length, sign):
    # Where the sum over angles begins to be cut, modes to be skipped, a ring to be frustrated.
    for size in (196 / math.pi**2, 4.0 * length, 1.5 * length):
        strength = (sign * size * tensor([1 - 1e-9, 1 + 1e-9])).requires_grad_()
        each = [XY.lattice((length,), coupling=one).log_normalizer() for one in strength]
        (slopes,) = torch.autograd.grad(sum(each), strength)
        step = ((each[1] - each[0]) / (strength[1] - strength[0])).detach()
        torch.testing.assert_close(step, slopes[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-7, atol=1e-7)


def test_a_torus_or_ring_without_couplings_is_flat_in_them():
    for shape in ((30, 30), (5, 4), (5,), (6,)):
        strength = torch.zeros(len(shape), dtype=torch.float64).requires_grad_()
        log_z = Ising.lattice(shape, coupling=strength).log_normalizer()
        (slope,) = torch.autograd.grad(log_z, strength)
        close(log_z.detach(), tensor(math.prod(shape) * math.log(2)))
        assert (slope == 0).all()


def test_two_rotors_are_bound_once():
    pair = XY.lattice((2,), coupling=tensor(1.5))
    close(
        pair.log_normalizer(),
        XY.lattice((2,), coupling=tensor(1.5), periodic=False).log_normalizer(),
    )
    close(pair(tensor([[0.3, 0.5]])), tensor([-1.5 * math.cos(0.2)]))


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 1e4])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 3)])
def test_closed_forms_hold_at_extreme_temperatures(shape, temperature):
    for coupling in (1.0, -1.0):
        lattice = Ising.lattice(shape, coupling=tensor(coupling), field=tensor(0.0))
        exact = exact_enumeration(lattice, temperature).log_z
        torch.testing.assert_close(lattice.log_normalizer(temperature), exact)
        torch.testing.assert_close(lattice.transfer_log_normalizer(temperature), exact)


def test_bonds_of_their_own_give_the_same_lattice():
    strengths = torch.full((2, 4, 3), 0.7, dtype=torch.float64)
    one, each = (Ising.lattice((4, 3), coupling=c) for c in (tensor(0.7), strengths))
    close(each.log_normalizer(), one.log_normalizer())
    x = torch.randint(2, (6, 4, 3)).double() * 2 - 1
    close(each(x), one(x))


@pytest.mark.parametrize(
    ("shape", "periodic", "count"),
    [
        ((5,), True, 5),
        ((5,), False, 4),
        ((2,), True, 1),
        ((1,), True, 0),
        ((4, 4), True, 32),
        ((4, 2), True, 12),
        ((4, 1), True, 4),
        ((3, 3, 3), True, 81),
        ((3, 3, 3), False, 54),
    ],
)
def test_each_pair_of_neighbours_is_bound_once(shape, periodic, count):
    pairs = LatticeCouplings(shape, 1.0, periodic=periodic).pairs().tolist()
    assert len(pairs) == count
    assert len({frozenset(pair) for pair in pairs}) == count


def test_wide_lattices_are_left_to_estimates():
    wide = Ising.lattice((12, 12), field=0.1)
    assert wide.log_normalizer() is None
    with pytest.raises(ValueError, match=r"expected a lattice narrow enough .* got \(20, 20\)"):
        Potts.lattice((20, 20), 3).transfer_log_normalizer()
    with pytest.raises(ValueError, match="expected a lattice, got dense couplings"):
        Ising(torch.zeros(3, 3)).transfer_log_normalizer()


def test_a_long_strip_is_summed_in_a_field():
    strip = Ising.lattice((3, 300), coupling=tensor(0.4), field=tensor(0.1))
    short = [
        Ising.lattice((3, n), coupling=tensor(0.4), field=tensor(0.1)).log_normalizer()
        for n in (100, 200)
    ]
    # Far from its ends a strip grows by one free energy for each slice.
    close(strip.log_normalizer() - short[1], short[1] - short[0], rtol=1e-9)
