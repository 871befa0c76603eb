"""Checks that look at values: NaN, gradient paths, randomness."""

import math

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_ebm.energies import (
    DoubleWell,
    Energy,
    as_energy,
    check_deterministic,
    check_gradient_path,
    check_values,
    values_visible,
)


def test_values_are_visible_outside_transforms_only():
    seen = []

    def look(x):
        seen.append(values_visible())
        return x.sum()

    x = torch.ones(2, 3)
    look(x)
    torch.func.vmap(look)(x)
    torch.func.grad(look)(x)
    make_fx(look)(x)
    assert seen == [True, False, False, False]


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_values_that_are_no_energies_are_shown_with_their_configuration(bad):
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ValueError, match=rf"got {bad} at 1 of 2.*x = \[3, 4\].*Return inf"):
        check_values(torch.tensor([0.0, bad]), x)
    check_values(torch.tensor([0.0, math.inf]), x)
    check_values(torch.empty(0), torch.empty(0, 2))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.detach().square().sum(),
        lambda x: torch.tensor(1.0),
        lambda x: torch.ones((), requires_grad=True),
    ],
)
def test_an_energy_without_a_path_to_x_is_refused(function):
    energy = as_energy(function, event_shape=(2,))
    with torch.no_grad(), pytest.raises(ValueError, match=r"no gradient path to x.*detach"):
        check_gradient_path(energy, torch.ones(3, 2))


def test_an_energy_that_changes_is_refused():
    x = torch.ones(3, 2)
    noisy = Energy.from_function(
        lambda x: x.sum(-1) + torch.randn(len(x)), event_shape=(2,), vectorized=True
    )
    with pytest.raises(ValueError, match=r"random stream moved.*params"):
        check_deterministic(noisy, x)
    calls = []

    def drifting(x):
        calls.append(1)
        return x.sum(-1) + len(calls)

    with pytest.raises(ValueError, match="two calls"):
        check_deterministic(Energy.from_function(drifting, event_shape=(2,), vectorized=True), x)
    check_deterministic(DoubleWell(2), x)
