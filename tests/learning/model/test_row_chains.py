"""Chains over mixed rows, and conditional draws, against sums and integrals."""

import math

import torch

from pyro_ebm.learning.model.annealed_rows import annealed_rows
from pyro_ebm.learning.model.filling import conditional_draws, filled_rows
from pyro_ebm.learning.model.mixture_base import MixtureBase, fit_mixture
from pyro_ebm.learning.model.row_chains import RowChains

STATES = (0, 3, 2)
SHIFT = torch.tensor([-1.0, 0.5, 2.0])
FIELD = torch.tensor([[0.2, -0.3], [0.0, 0.4], [-0.5, 0.1]])


def _energy(rows):
    """x | c ~ N(shift_c, 1), with a field on (c, b): log Z = logsumexp(-field) + log(2 pi)/2."""
    c, b = rows[:, 1].long(), rows[:, 2].long()
    return 0.5 * (rows[:, 0] - SHIFT[c]).square() + FIELD[c, b]


LOG_Z = float((-FIELD).reshape(-1).logsumexp(0)) + 0.5 * math.log(2.0 * math.pi)


def _base(generator):
    rows = torch.stack([3.0 * torch.randn(400), torch.arange(400.0) % 3, torch.arange(400.0) % 2])
    return fit_mixture(rows.T, STATES, components=1, generator=generator)


def _exact(number, generator):
    share = (-FIELD).reshape(-1).softmax(0)
    pair = torch.multinomial(share, number, True, generator=generator)
    c, b = pair // 2, pair % 2
    x = SHIFT[c] + torch.randn(number, generator=generator)
    return torch.stack([x, c.float(), b.float()], 1)


def _agree(draws, other):
    """Means of what tells the two apart, within four standard errors."""

    def features(rows):
        one = torch.nn.functional.one_hot((2 * rows[:, 1] + rows[:, 2]).long(), 6).double()
        x = rows[:, :1].double()
        return torch.cat([one, x, x.square(), one * x], 1)

    a, b = features(draws), features(other)
    error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
    return bool(((a.mean(0) - b.mean(0)).abs() < 4.5 * error + 1e-12).all())


def test_mixed_transitions_leave_exact_draws_exact():
    stream = torch.Generator().manual_seed(1)
    chains = RowChains(_energy, STATES)
    state = chains.begin(_exact(4000, stream))
    state, acceptance = chains.move(state, 5, stream)
    assert 0.5 < acceptance < 1.0
    assert _agree(chains.rows(state), _exact(40_000, stream))


def test_a_sweep_that_forgets_the_field_is_caught():
    stream = torch.Generator().manual_seed(2)
    chains = RowChains(lambda rows: _energy(rows) - FIELD[rows[:, 1].long(), 0], STATES)
    state, _ = chains.move(chains.begin(_exact(4000, stream)), 5, stream)
    assert not _agree(chains.rows(state), _exact(40_000, stream))


def test_annealed_log_z_is_the_sum_and_the_integral():
    stream = torch.Generator().manual_seed(3)
    done = annealed_rows(
        _energy, _base(stream), STATES, number=1500, temperature=1.0, generator=stream
    )
    assert done.log_z.reliable
    assert abs(done.log_z.log_z - LOG_Z) < 4.0 * done.log_z.std_error
    assert done.log_z.std_error < 0.05
    assert _agree(done.rows, _exact(20_000, stream))


def test_annealing_to_a_temperature_gives_its_log_z():
    stream = torch.Generator().manual_seed(4)
    done = annealed_rows(
        _energy, _base(stream), STATES, number=1500, temperature=2.0, generator=stream
    )
    exact = float((-FIELD / 2.0).reshape(-1).logsumexp(0)) + 0.5 * math.log(4.0 * math.pi)
    assert abs(done.log_z.log_z - exact) < 4.0 * done.log_z.std_error


def test_a_tail_of_nearly_equal_weights_is_no_alarm():
    stream = torch.Generator().manual_seed(8)
    base = _base(stream)

    def raised(rows):
        """Half a nat lower far out: a few weights stand out of equal ones, by less than a half."""
        return -base.log_prob(rows) - 0.5 * torch.sigmoid(2.0 * (rows[:, 0].abs() - 8.5))

    log_z = annealed_rows(
        raised, base, STATES, number=1500, temperature=1.0, generator=stream
    ).log_z
    assert log_z.khat is not None
    assert log_z.khat > 0.7
    assert log_z.ess > 1400
    assert log_z.reliable


def test_filled_values_have_their_conditional_distribution():
    stream = torch.Generator().manual_seed(5)
    nan = math.nan
    rows = torch.tensor([[1.0, nan, 1.0], [nan, 2.0, 0.0]])
    draws = filled_rows(
        _energy, rows, _base(stream), num_draws=3000, transitions=15, generator=stream
    ).draws
    assert torch.equal(draws[:, 0, [0, 2]], rows[0, [0, 2]].expand(3000, 2))
    exact = (-(0.5 * (1.0 - SHIFT).square() + FIELD[:, 1])).softmax(0)
    counts = torch.bincount(draws[:, 0, 1].long(), minlength=3) / 3000.0
    assert bool(((counts - exact).abs() < 4.0 * (exact * (1 - exact) / 3000.0).sqrt()).all())
    x = draws[:, 1, 0]
    assert abs(float(x.mean()) - 2.0) < 4.0 / math.sqrt(3000.0)
    assert abs(float(x.var()) - 1.0) < 4.0 * math.sqrt(2.0 / 3000.0)


def test_conditional_draws_of_a_gaussian_are_those_of_its_regression():
    stream = torch.Generator().manual_seed(6)
    factor = torch.tensor([[[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.3, 0.2, 0.5]]])
    base = MixtureBase(
        (0, 0, 0), torch.zeros(1), torch.tensor([[1.0, -1.0, 0.0]]), factor,
        log_probabilities=torch.zeros(1, 0, 1),
    )  # fmt: skip
    covariance = (factor[0] @ factor[0].T).double()
    rows = torch.tensor([[0.3, math.nan, 0.7]]).expand(20_000, 3)
    drawn = conditional_draws(base, rows, stream)[:, 1].double()
    known = torch.tensor([0, 2])
    gain = torch.linalg.solve(covariance[known][:, known], covariance[known, 1])
    mean = -1.0 + float(gain @ torch.tensor([-0.7, 0.7], dtype=torch.float64))
    variance = float(covariance[1, 1] - gain @ covariance[known, 1])
    assert abs(float(drawn.mean()) - mean) < 4.0 * math.sqrt(variance / 20_000)
    assert abs(float(drawn.var()) / variance - 1.0) < 4.0 * math.sqrt(2.0 / 20_000)


def test_the_mixture_is_normalised_and_its_draws_are_its_own():
    stream = torch.Generator().manual_seed(7)
    base = fit_mixture(_exact(600, stream), STATES, components=(1, 2, 3), generator=stream)
    x = torch.linspace(-20.0, 20.0, 4001)
    total = 0.0
    for c in range(3):
        for b in range(2):
            rows = torch.stack([x, torch.full_like(x, c), torch.full_like(x, b)], 1)
            total += float(torch.trapezoid(base.log_prob(rows).double().exp(), x.double()))
    assert abs(total - 1.0) < 1e-4
    entropy = -base.log_prob(base.sample(4000, stream)).double()
    again = -base.log_prob(base.sample(4000, stream)).double()
    error = math.sqrt(float(entropy.var() + again.var()) / 4000)
    assert abs(float(entropy.mean() - again.mean())) < 4.0 * error
