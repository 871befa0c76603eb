"""Sites that others determine are neither latent nor data, and their density is a prior's."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam, SplitReparam, TransformReparam
from torch import Tensor

from pyro_ebm.target import Side, Target

from . import models


def vector() -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    x = pyro.sample("x", dist.Normal(mu, 1.0).expand([4]).to_event(1))
    pyro.sample("y", dist.Normal(x, 1.0).to_event(1), obs=models.DATA)


def skewed() -> None:
    x = pyro.sample("x", dist.LogNormal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))


def delta() -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 4):
        x = pyro.sample("x", dist.Delta(2 * mu).mask(True))
        pyro.sample("y", dist.Normal(x, 1.0), obs=models.DATA)


def centred() -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 4):
        x = pyro.sample("x", dist.Normal(mu, 2.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=models.DATA)


MODELS: dict[str, Callable] = {
    "loc-scale": poutine.reparam(centred, {"x": LocScaleReparam(0.0)}),
    "split": poutine.reparam(vector, {"x": SplitReparam([1, 3], -1)}),
    "transform": poutine.reparam(skewed, {"x": TransformReparam()}),
    "delta": delta,
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_determined_site_is_a_value_and_no_datum(model: Callable):
    target = Target.from_model(model)
    assert target.vectorized
    assert "x" not in {site.name for site in target.sites}
    z = torch.randn(3, target.dim)
    terms = target.evaluate(z)
    assert set(terms.deterministics) == {"x"}
    assert set(terms.log_likelihood) == {"y"}
    # The supports of the latent sites left are all real: positions are values.
    for row in range(3):
        fixed = pyro.condition(model, {name: value[row] for name, value in terms.latents.items()})
        trace = poutine.trace(fixed).get_trace()
        torch.testing.assert_close(terms.log_density[row], trace.log_prob_sum())
        torch.testing.assert_close(terms.deterministics["x"][row], trace.nodes["x"]["value"])


def test_the_density_of_a_change_of_variables_is_part_of_the_prior():
    def model() -> None:
        raw = pyro.sample("raw", dist.Normal(0.0, 1.0))
        x = pyro.sample("x", dist.Delta(raw.exp(), log_density=3 * raw), obs=raw.exp())
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    target = Target.from_model(model)
    raw = torch.randn(4, 1)
    terms = target.evaluate(raw)
    torch.testing.assert_close(terms.log_prior["x"], 3 * raw[:, 0])
    cold, _ = target.log_density_and_gradient(raw.T, Side(beta=torch.zeros(4)))
    torch.testing.assert_close(cold, dist.Normal(0.0, 1.0).log_prob(raw[:, 0]) + 3 * raw[:, 0])


def test_a_delta_at_data_is_data():
    def model(y: Tensor) -> None:
        pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Delta(y), obs=y)

    terms = Target.from_model(model, torch.tensor(2.0)).evaluate(torch.zeros(2, 1))
    assert set(terms.log_likelihood) == {"y"}
    assert not terms.deterministics
