"""Margins: monotone, inverted, and with the slope that their densities need."""

import torch

from pyro_ebm.learning.model.margins import normal_margins, plain_margins


def _columns():
    skewed = torch.randn(300, dtype=torch.float64).exp()
    bounded = 100.0 + 5.0 * torch.rand(300, dtype=torch.float64)
    return torch.stack([skewed, bounded], 1)


def test_normal_margins_are_inverted_to_rounding_far_beyond_the_data():
    margins = normal_margins(_columns())
    z = torch.linspace(-8.0, 8.0, 401, dtype=torch.float64)[:, None].expand(-1, 2)
    assert torch.allclose(margins.forward(margins.inverse(z)), z, atol=1e-8)


def test_the_slope_is_the_derivative():
    margins = normal_margins(_columns())
    x = torch.stack([torch.linspace(-1.0, 9.0, 300), torch.linspace(98.0, 107.0, 300)], 1).double()
    h = 1e-5
    slope = (margins.forward(x + h) - margins.forward(x - h)) / (2 * h)
    assert torch.allclose(margins.log_slope(x), slope.log(), atol=1e-5)


def test_a_density_through_normal_margins_integrates_to_one():
    margins = normal_margins(_columns()[:, :1])
    x = torch.linspace(-30.0, 60.0, 90_001, dtype=torch.float64)[:, None]
    normal = torch.distributions.Normal(0.0, 1.0)
    density = (normal.log_prob(margins.forward(x)) + margins.log_slope(x)).exp()
    assert abs(float(torch.trapezoid(density[:, 0], x[:, 0])) - 1.0) < 1e-6


def test_margins_keep_what_is_missing_and_leave_it_out():
    x = _columns()
    holes = x.clone()
    holes[::3, 0] = torch.nan
    for make in (plain_margins, normal_margins):
        moved = make(holes).forward(holes)
        assert bool(moved[::3, 0].isnan().all())
        assert not bool(moved[1::3].isnan().any())
    assert torch.equal(plain_margins(holes).center[1], plain_margins(x).center[1])
