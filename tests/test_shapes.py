"""Shapes by arithmetic, beside torch's own."""

import pytest
import torch
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
    PowerTransform,
)

from pyro_ebm.shapes import joint_shape, unconstrained_shape


@pytest.mark.parametrize(
    "shapes", [[], [()], [(), (3,)], [(2, 1), (3,)], [(1,), (0,)], [(4, 1, 3), (2, 1), (1,)]]
)
def test_shapes_are_joined_as_torch_joins_them(shapes):
    assert joint_shape(*shapes) == torch.broadcast_shapes(*shapes)


@pytest.mark.parametrize("shapes", [[(2,), (3,)], [(0,), (2,)], [(2, 3), (3, 2)]])
def test_shapes_that_cannot_be_joined_are_refused(shapes):
    with pytest.raises(RuntimeError):
        torch.broadcast_shapes(*shapes)
    with pytest.raises(RuntimeError, match="cannot be broadcast"):
        joint_shape(*shapes)


SCALES = AffineTransform(torch.zeros(4, 1), torch.ones(3))
TRANSFORMS = {
    "affine": SCALES,
    "composed": ComposeTransform([SCALES, ExpTransform(), PowerTransform(torch.ones(5, 1, 1))]),
    "independent": IndependentTransform(SCALES, 1),
    "simplex": biject_to(constraints.simplex),
    "cholesky": biject_to(constraints.corr_cholesky),
    "interval": biject_to(constraints.interval(torch.zeros(3), 1.0)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_unconstrained_shape_is_that_of_torch(name):
    transform, shape = TRANSFORMS[name], torch.Size((3, 3))
    if name in ("affine", "composed", "independent"):
        shape = torch.Size((4, 3))
    assert unconstrained_shape(transform, shape) == transform.inverse_shape(shape)
