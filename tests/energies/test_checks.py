"""Checks that look at values: when there are any, and NaN among them."""

import math

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_ebm.energies import check_values, values_visible


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
