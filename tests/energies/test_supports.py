"""Supports: widened to events, compared by what they mean."""

import copy

import pytest
import torch
from torch.distributions import constraints

from pyro_ebm.energies import MuellerBrown, clamp, event_support
from pyro_ebm.energies.supports import elementwise, same_interior, same_support


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_an_elementwise_support_is_widened_to_the_event(shape):
    widened = event_support(constraints.positive, torch.Size(shape))
    assert widened.event_dim == len(shape)
    assert elementwise(widened) is constraints.positive


def test_a_support_of_events_stays_as_it_is():
    assert event_support(constraints.simplex, torch.Size((3,))) is constraints.simplex
    assert event_support(constraints.simplex, torch.Size((2, 3))).event_dim == 2
    assert elementwise(constraints.simplex) is None


def test_supports_are_the_same_when_kind_and_bounds_are():
    box = constraints.interval(torch.zeros(2), torch.ones(2))
    assert same_support(box, copy.deepcopy(box))
    assert same_support(constraints.real, copy.deepcopy(constraints.real))
    assert not same_support(box, constraints.interval(torch.zeros(2), 2 * torch.ones(2)))
    assert not same_support(box, constraints.interval(0.0, 1.0))
    assert not same_support(constraints.real, constraints.positive)
    assert same_support(
        constraints.stack([constraints.real, constraints.positive]),
        constraints.stack([constraints.real, constraints.positive]),
    )


def test_supports_have_the_same_interior_whatever_their_borders():
    assert same_interior(constraints.positive, constraints.nonnegative)
    assert not same_support(constraints.positive, constraints.nonnegative)
    wide = event_support(constraints.nonnegative, torch.Size((2,)))
    assert same_interior(event_support(constraints.positive, torch.Size((2,))), wide)
    assert same_interior(constraints.unit_interval, constraints.half_open_interval(0.0, 1.0))
    assert not same_interior(constraints.unit_interval, constraints.half_open_interval(0.0, 2.0))
    assert not same_interior(constraints.positive, constraints.greater_than_eq(1.0))
    assert not same_interior(constraints.positive, constraints.simplex)


def test_bounds_follow_the_dtype_of_the_energy():
    for energy in (MuellerBrown(), MuellerBrown() / 2.0, clamp(MuellerBrown(), [0], 0.5)):
        low = elementwise(energy.double().support)
        assert isinstance(low, constraints.interval)
        assert low.lower_bound.dtype == torch.float64
