"""Small models, each with one thing that a Target must get right."""

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn

DATA = torch.tensor([0.3, -0.2, 1.1, 0.7])


def plain() -> Tensor:
    """Plates, a deterministic site, a constrained latent and data."""
    mu = pyro.sample("mu", dist.Normal(0.0, 2.0))
    tau = pyro.sample("tau", dist.HalfNormal(1.0))
    pyro.deterministic("ratio", mu / tau)
    with pyro.plate("data", 4):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        return pyro.sample("y", dist.Normal(theta, 0.5), obs=DATA)


def nested() -> None:
    """Plates in plates, and an event in the inner one."""
    with pyro.plate("outer", 3, dim=-2):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("inner", 2, dim=-1):
            w = pyro.sample("w", dist.Dirichlet(torch.ones(4)))
            pyro.sample("b", dist.Normal(a + w[..., 0], 1.0))


def triangle() -> None:
    """A support that depends on a latent."""
    a = pyro.sample("a", dist.Uniform(0.0, 1.0))
    pyro.sample("b", dist.Uniform(0.0, 1.0 - a))


def mixture() -> None:
    """A discrete latent for every datum."""
    weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
    loc = pyro.sample("loc", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
    with pyro.plate("data", 4):
        z = pyro.sample("z", dist.Categorical(torch.stack([weight, 1 - weight])))
        pyro.sample("y", dist.Normal(loc[z], 1.0), obs=DATA)


def hidden_markov() -> None:
    """A chain of discrete latents."""
    stay = pyro.sample("stay", dist.Beta(2.0, 1.0))
    loc = pyro.sample("loc", dist.Normal(0.0, 3.0).expand([2]).to_event(1))
    rows = torch.stack([torch.stack([stay, 1 - stay]), torch.stack([1 - stay, stay])])
    z = 0
    for t in pyro.markov(range(4)):
        z = pyro.sample(f"z{t}", dist.Categorical(rows[z]))
        pyro.sample(f"y{t}", dist.Normal(loc[z], 1.0), obs=DATA[t])


def branching() -> None:
    """A Python `if` on a value: vmap cannot take it."""
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    loc = 2.0 if x > 0 else -2.0
    pyro.sample("y", dist.Normal(loc, 1.0))


class Regression(PyroModule):
    """Weights with priors, a learnable parameter, and a plain net."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = PyroModule[nn.Linear](2, 1)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 1.0).expand([1]).to_event(1))
        self.net = nn.Linear(1, 1)

    def forward(self, x: Tensor, y: Tensor) -> None:
        noise = pyro.param("noise", torch.tensor(0.7), constraint=constraints.positive)
        mean = self.linear(x).squeeze(-1) + self.net(x[:, :1]).squeeze(-1)
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(mean, noise), obs=y)


def improper() -> None:
    """Priors that cannot be sampled."""
    loc = pyro.sample("loc", dist.ImproperUniform(constraints.real, (), ()))
    scale = pyro.sample("scale", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("data", 4):
        pyro.sample("y", dist.Normal(loc, scale), obs=DATA)
