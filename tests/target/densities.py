"""Functions of one position, and Pyro models, that together do most of what densities do."""

import pyro
import pyro.distributions as dist
import torch

GROUPS = torch.tensor([0, 3, 1, 1, 2, 0, 3, 2, 1, 0, 2, 3])
SIGNS = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1])
NUMBERS = torch.linspace(-1.5, 2.0, 12)
TABLE = torch.sin(torch.arange(36.0)).reshape(12, 3)
MASK = torch.tensor([True, False, True, True, False, True])


def _positive(f):
    return lambda z: f(torch.nn.functional.softplus(z)).sum()


def _within(f):
    return lambda z: f(0.9 * torch.tanh(z)).sum()


# Of six numbers each.
FUNCTIONS = {
    **{
        name: (lambda f: lambda z: f(z).sum())(getattr(torch, name))
        for name in (
            *("exp", "expm1", "exp2", "sin", "cos", "atan", "sinh", "cosh", "tanh", "erf", "erfc"),
            *("sigmoid", "square", "abs", "relu", "floor", "sign"),
        )
    },
    **{
        name: _positive(getattr(torch, name))
        for name in ("log", "log2", "log10", "log1p", "sqrt", "rsqrt", "lgamma", "digamma")
        if name != "digamma"
    },
    **{name: _within(getattr(torch, name)) for name in ("asin", "acos", "tan", "atanh")},
    "reciprocal": lambda z: (1.0 / (2.0 + z.square())).sum(),
    "powers": lambda z: (z**2 + z**3 + z**4 + (z.square() + 1.0) ** -1.5).sum(),
    "roots": lambda z: ((z.square() + 1.0) ** 0.5 + (z.square() + 1.0) ** -0.5).sum(),
    "power_of_tensors": lambda z: (z.square() + 0.5).pow(z.flip(0)).sum() + (2.0**z).sum(),
    "softplus": lambda z: torch.nn.functional.softplus(z, beta=2.0, threshold=3.0).sum(),
    "logsigmoid": lambda z: torch.nn.functional.logsigmoid(z).sum(),
    "silu": lambda z: torch.nn.functional.silu(z).sum(),
    "gelu": lambda z: torch.nn.functional.gelu(z).sum(),
    "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z, 0.1).sum(),
    "clamp": lambda z: z.clamp(-0.5, 0.7).sum() + z.clamp(min=0.1).sum() + z.clamp(max=0.2).sum(),
    "extremes": lambda z: torch.maximum(z, z.flip(0)).square().sum() + z.amax() + z.min(),
    "greatest": lambda z: z.reshape(2, 3).max(1).values.square().sum(),
    "where": lambda z: torch.where(z > 0, z.exp(), z.square()).sum(),
    "masked": lambda z: z.masked_fill(MASK, 0.0).exp().sum(),
    "comparisons": lambda z: (((z > 0.1) & (z < 1.0)) | (z <= -1.0)).to(z.dtype).dot(z),
    "whole_numbers": lambda z: (z * GROUPS[:6]).sum() + (z > 0).sum() * z[0],
    "xlogy": lambda z: torch.xlogy(torch.arange(6.0).to(z), z.exp() + 1.0).sum(),
    "logaddexp": lambda z: torch.logaddexp(z, z.flip(0)).sum(),
    "atan2": lambda z: torch.atan2(z, z.flip(0)).sum() + torch.hypot(z, z.roll(1)).sum(),
    "addcmul": lambda z: torch.addcmul(z, z, z.flip(0), value=0.3).sum(),
    "rsub": lambda z: torch.rsub(z, 1.0, alpha=2.0).square().sum() + torch.sub(z, 2, alpha=3).sum(),
    "remainder": lambda z: torch.remainder(z, 0.7).square().sum(),
    "logsumexp": lambda z: z.reshape(2, 3).logsumexp(1).square().sum() + z.logsumexp(0),
    "softmax": lambda z: (z.reshape(2, 3).softmax(1) * TABLE[:2].to(z)).square().sum(),
    "log_softmax": lambda z: (z.reshape(3, 2).log_softmax(0) * TABLE[:3, :2].to(z)).sum(),
    "sums": lambda z: z.reshape(2, 3).sum(0).exp().sum() + z.reshape(3, 2).mean(1).exp().sum(),
    "products": lambda z: z.prod() + z.reshape(2, 3).cumprod(1).sum(),
    "moments": lambda z: (
        z.var() + z.reshape(2, 3).std(1).sum() + z.norm() + z.exp().var(correction=0)
    ),
    "running": lambda z: z.cumsum(0).square().sum() + z.reshape(2, 3).cumsum(0).exp().sum(),
    "views": lambda z: (z.reshape(2, 3).T.reshape(-1) * z).sum() + z[1::2].exp().sum() + z[-1] ** 2,
    "diagonals": lambda z: torch.diag_embed(z).diagonal().exp().sum(),
    "triangles": lambda z: (
        (torch.outer(z, z.exp()).tril(-1) + torch.outer(z, z).triu(1)).square().sum()
    ),
    "pieces": lambda z: (
        torch.cat([z[:2], z[1:] ** 2]).cumsum(0).sum() + torch.stack([z, z**2]).exp().sum()
    ),
    "splits": lambda z: (
        sum(i * part.exp().sum() for i, part in enumerate(z.split(2))) + z.unbind()[2]
    ),
    "windows": lambda z: z.unfold(0, 3, 1).logsumexp(1).sum(),
    "rolls": lambda z: (
        (z.roll(1) * z).sum() + (z.reshape(2, 3).roll((1, 2), (0, 1)) * TABLE[:2].to(z)).sum()
    ),
    "padding": lambda z: (
        torch.nn.functional.pad(z, (1, 2), value=0.5).square().sum()
        + torch.nn.functional.pad(z, (-1, 1)).exp().sum()
    ),
    "picked": lambda z: z[GROUPS].square().sum() + (z.reshape(2, 3)[:, GROUPS[:2] - 1] ** 2).sum(),
    "picked_twice": lambda z: z.reshape(2, 3)[SIGNS, SIGNS + 1].exp().sum(),
    "gathered": lambda z: z.reshape(2, 3).gather(1, SIGNS[:4].reshape(2, 2)).exp().sum(),
    "index_select": lambda z: z.index_select(0, GROUPS).exp().sum(),
    "matrix_vector": lambda z: (TABLE.to(z) @ z[:3]).exp().sum() + (z[:3] @ TABLE.T.to(z)).sum(),
    "matrices": lambda z: (z.reshape(2, 3) @ z.reshape(3, 2)).square().sum(),
    "batches": lambda z: (z.reshape(2, 3, 1) @ z.reshape(2, 1, 3)).exp().sum(),
    "layers": lambda z: (
        torch.nn.functional.linear(
            torch.tanh(
                torch.nn.functional.linear(z, TABLE.reshape(6, 6).to(z), TABLE[:6, 0].to(z))
            ),
            TABLE[:6].T.to(z),
        )
        .square()
        .sum()
    ),
    "factors": lambda z: (
        torch.linalg.cholesky(torch.outer(z, z) + 3.0 * torch.eye(6, dtype=z.dtype))
        .diagonal()
        .log()
        .sum()
    ),
    "triangular_systems": lambda z: (
        torch.linalg.solve_triangular(
            torch.outer(z, z).tril() + 3.0 * torch.eye(6, dtype=z.dtype), z[:, None], upper=False
        )
        .square()
        .sum()
    ),
    "changes_in_place": lambda z: torch.zeros_like(z).add_(z).mul_(2.0).sub_(1.0).square().sum(),
    "a_constant_beside": lambda z: z.square().sum() + torch.zeros(3, dtype=z.dtype).sum() + 2.5,
    "cross_entropy": lambda z: torch.nn.functional.binary_cross_entropy_with_logits(
        z, SIGNS[:6].to(z), reduction="none"
    ).sum(),
}


def _regression(likelihood):
    def model():
        intercept = pyro.sample("intercept", dist.Normal(0.0, 1.0))
        scale = pyro.sample("scale", dist.HalfNormal(1.0))
        with pyro.plate("data", len(NUMBERS)):
            fn, data = likelihood(intercept, scale)
            pyro.sample("y", fn, obs=data.to(torch.get_default_dtype()))

    return model


def _prior(make):
    return lambda: pyro.sample("z", make())


def _hierarchy():
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    spread = pyro.sample("spread", dist.HalfCauchy(1.0))
    with pyro.plate("groups", 4):
        effect = pyro.sample("effect", dist.Normal(mean, spread))
    with pyro.plate("data", len(NUMBERS)):
        pyro.sample("y", dist.Normal(effect[GROUPS], 1.0), obs=NUMBERS)


def _correlated():
    factor = pyro.sample("factor", dist.LKJCholesky(3, 1.0))
    scale = pyro.sample("scale", dist.HalfNormal(torch.ones(3)).to_event(1))
    with pyro.plate("data", len(TABLE)):
        fn = dist.MultivariateNormal(torch.zeros(3), scale_tril=scale[:, None] * factor)
        pyro.sample("y", fn, obs=TABLE)


def _process():
    length = pyro.sample("length", dist.HalfNormal(1.0))
    apart = (NUMBERS[:, None] - NUMBERS).square()
    covariance = torch.exp(-apart / (0.1 + length)) + 0.3 * torch.eye(len(NUMBERS))
    fn = dist.MultivariateNormal(torch.zeros(len(NUMBERS)), covariance_matrix=covariance)
    pyro.sample("y", fn, obs=NUMBERS.sin())


def _classes():
    weights = pyro.sample("weights", dist.Normal(torch.zeros(3, 4), 1.0).to_event(2))
    with pyro.plate("data", len(TABLE)):
        pyro.sample("y", dist.Categorical(logits=TABLE @ weights), obs=GROUPS)


def _summed_out():
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("components", 3):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(NUMBERS)):
        which = pyro.sample("which", dist.Categorical(weights), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(mean[which], 1.0), obs=NUMBERS)


def _chain_of_states():
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    one, square = torch.zeros(1), torch.eye(1)
    noise = dist.Normal(one, 0.3 + scale).to_event(1)
    fn = dist.GaussianHMM(dist.Normal(one, 1.0).to_event(1), square, noise, square, noise)
    pyro.sample("y", fn, obs=NUMBERS[:, None])


def _volatility():
    rate = pyro.sample("rate", dist.Uniform(0.0, 1.0))
    share = pyro.sample("share", dist.Uniform(0.0, 1.0 - rate))
    spread = torch.ones(())
    for i in range(1, len(NUMBERS)):
        spread = torch.sqrt(0.5 + rate * NUMBERS[i - 1] ** 2 + share * spread**2)
        pyro.sample(f"y_{i}", dist.Normal(0.0, spread), obs=NUMBERS[i])


def _part_of_the_data():
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.poutine.scale(scale=3.0), pyro.plate("data", 6), pyro.poutine.mask(mask=MASK):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=NUMBERS[:6])


def _net():
    first = pyro.sample("first", dist.Normal(torch.zeros(3, 8), 1.0).to_event(2))
    second = pyro.sample("second", dist.Normal(torch.zeros(8), 1.0).to_event(1))
    with pyro.plate("data", len(TABLE)):
        pyro.sample("y", dist.Normal(torch.tanh(TABLE @ first) @ second, 1.0), obs=NUMBERS)


COUNTS, SHARES = GROUPS.float(), torch.linspace(0.05, 0.95, 12)
MODELS = {
    "student": _regression(lambda a, s: (dist.StudentT(3.0 + s, a, s), NUMBERS)),
    "gamma": _regression(lambda a, s: (dist.Gamma(a.exp(), s), SHARES)),
    "beta": _regression(lambda a, s: (dist.Beta(a.exp(), s), SHARES)),
    "laplace": _regression(lambda a, s: (dist.Laplace(a, s), NUMBERS)),
    "weibull": _regression(lambda a, s: (dist.Weibull(a.exp(), s), SHARES)),
    "poisson": _regression(lambda a, _: (dist.Poisson(a.exp()), COUNTS)),
    "negative_binomial": _regression(lambda a, s: (dist.NegativeBinomial(s, logits=a), COUNTS)),
    "binomial": _regression(lambda a, _: (dist.Binomial(4, logits=a), COUNTS)),
    "bernoulli": _regression(lambda a, _: (dist.Bernoulli(logits=a), SIGNS)),
    "von_mises": _regression(lambda a, s: (dist.VonMises(a, s), NUMBERS)),
    "zero_inflated": _regression(
        lambda a, s: (dist.ZeroInflatedPoisson(a.exp(), gate_logits=s), COUNTS)
    ),
    "beta_binomial": _regression(lambda a, s: (dist.BetaBinomial(a.exp(), s, 4), COUNTS)),
    "dirichlet": _prior(lambda: dist.Dirichlet(2.0 * torch.ones(4))),
    "correlations": _prior(lambda: dist.LKJCholesky(3, 2.0)),
    "interval": _prior(lambda: dist.Uniform(-1.0, 2.0)),
    "ordered": _prior(
        lambda: dist.TransformedDistribution(
            dist.Normal(torch.zeros(4), 1.0).to_event(1), [dist.transforms.OrderedTransform()]
        )
    ),
    "hierarchy": _hierarchy,
    "correlated": _correlated,
    "process": _process,
    "classes": _classes,
    "summed_out": _summed_out,
    "chain_of_states": _chain_of_states,
    "volatility": _volatility,
    "part_of_the_data": _part_of_the_data,
    "net": _net,
}
