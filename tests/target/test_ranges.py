"""A transformed distribution is sampled where it lives, or refused by the name of its site."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import (
    AffineTransform,
    ExpTransform,
    OrderedTransform,
    SigmoidTransform,
    StickBreakingTransform,
)

from pyro_ebm.target import Target


def normal(*transforms: object, size: int = 1) -> dist.Distribution:
    base = dist.Normal(torch.zeros(size), 1.0).to_event(1)
    return dist.TransformedDistribution(base, list(transforms))


WRONG: dict[str, Callable[[], dist.Distribution]] = {
    "shifted-exp": lambda: normal(ExpTransform(), AffineTransform(1.0, 2.0)),
    "far-shifted-exp": lambda: normal(ExpTransform(), AffineTransform(-50.0, 2.0)),
    "mirrored-exp": lambda: normal(ExpTransform(), AffineTransform(0.0, -1.0)),
    # The density beyond the border is a number, and wrong.
    "shifted-exponential": lambda: dist.TransformedDistribution(
        dist.Exponential(1.0), [AffineTransform(1.0, 2.0)]
    ),
    "masked-in-a-plate": lambda: (
        normal(ExpTransform(), AffineTransform(1.0, 2.0)).mask(True).expand([2])
    ),
}
RIGHT: dict[str, Callable[[], dist.Distribution]] = {
    "affine": lambda: normal(AffineTransform(1.0, 2.0)),
    "exp": lambda: normal(ExpTransform()),
    "shift-exp": lambda: normal(AffineTransform(1.0, 2.0), ExpTransform()),
    "ordered": lambda: normal(OrderedTransform(), size=3),
    "simplex": lambda: normal(StickBreakingTransform(), size=3),
    "logit": lambda: dist.TransformedDistribution(dist.Beta(2.0, 3.0), [SigmoidTransform().inv]),
    "log": lambda: dist.TransformedDistribution(dist.Gamma(2.0, 3.0), [ExpTransform().inv]),
    "gumbel": lambda: dist.Gumbel(0.0, 1.0),
    "kumaraswamy": lambda: dist.Kumaraswamy(2.0, 3.0),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_a_support_wider_than_the_range_is_refused(make: Callable[[], dist.Distribution]):
    with pytest.raises(ValueError, match=r"Site 'x' declares the support .*transforms="):
        Target.from_distribution(make())


@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
def test_a_support_that_is_the_range_is_taken(make: Callable[[], dist.Distribution]):
    target = Target.from_distribution(make())
    value, gradient = target.log_density_and_gradient(torch.randn(target.dim, 5))
    assert bool(value.isfinite().all())
    assert bool(gradient.isfinite().all())


def test_the_ways_out_of_a_wrong_support_give_its_density():
    fixed = WRONG["shifted-exp"]()

    def model() -> None:
        pyro.sample("x", fixed)

    parts = [ExpTransform(), AffineTransform(1.0, 2.0)]
    onto = torch.distributions.ComposeTransform(parts)
    target = Target.freeze(model, (), {}, transforms={"x": onto.inv})
    z = torch.randn(1, 6)
    expected = dist.Normal(0.0, 1.0).log_prob(z[0])
    torch.testing.assert_close(target.log_density_and_gradient(z)[0], expected)
