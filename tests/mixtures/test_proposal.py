"""The proposal of the bridge is a density over all orders of the components."""

import itertools
import math

import pytest
import torch
from torch import distributions as law

from pyro_ebm import MixturePrior
from pyro_ebm.mixtures.gibbs import Gibbs
from pyro_ebm.mixtures.permanent import log_permanent
from pyro_ebm.mixtures.proposal import Proposal, Stored

SCALES = {
    "diagonal": (1.5, torch.tensor([0.5, 1.2])),
    "full": (torch.tensor([[1.5, 0.0], [0.4, 0.7]]), torch.tensor([[1.0, 0.3], [0.3, 0.6]])),
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)


def gibbs_of(kind: str, *, equal: bool) -> Gibbs:
    width, scale = (part.double() for part in map(torch.as_tensor, SCALES[kind]))
    rows = torch.randn(12, 2)
    hyper = MixturePrior(torch.tensor([0.3, -1.0]), width, 3.0, scale, 1.7).hyper(rows)
    return Gibbs(rows, hyper, 3, equal_variance=equal)


def stored_states(gibbs: Gibbs, generator: torch.Generator, number: int = 3) -> Stored:
    particles = gibbs.prior(number, generator)
    fitted = gibbs.memberships(particles, gibbs.log_components(particles), 1.0)
    return Stored(gibbs.sums(fitted, generator), particles.mean)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_permanent_is_the_sum_over_all_orders(size: int):
    matrix = 6.0 * torch.randn(size, size, 4)
    orders = itertools.permutations(range(size))
    every = [matrix[torch.arange(size), list(order)].sum(0) for order in orders]
    torch.testing.assert_close(log_permanent(matrix), torch.stack(every).logsumexp(0))


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("equal", [False, True])
def test_a_sweep_from_no_members_is_the_prior(kind: str, equal: bool):
    gibbs = gibbs_of(kind, equal=equal)
    drawn = gibbs.prior(5, torch.Generator().manual_seed(1))
    hyper = gibbs.hyper
    tril = hyper.mean_tril if hyper.full else torch.diag(hyper.mean_tril)
    wanted = law.Dirichlet(torch.full((3,), 1.7)).log_prob(drawn.log_weights.exp())
    wanted += law.MultivariateNormal(hyper.mean_loc, scale_tril=tril).log_prob(drawn.mean).sum(1)
    if hyper.full:
        wishart = law.Wishart(torch.tensor(hyper.degrees), precision_matrix=2.0 * hyper.scale)
        wanted += wishart.log_prob(drawn.precision).sum(1)
    else:
        wanted += law.Gamma(hyper.shape, hyper.scale).log_prob(drawn.precision).sum((1, 2))
    torch.testing.assert_close(Proposal.prior(gibbs).log_density(drawn), wanted)


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("equal", [False, True])
def test_a_proposal_does_not_know_the_order_of_components(kind: str, equal: bool):
    generator = torch.Generator().manual_seed(1)
    gibbs = gibbs_of(kind, equal=equal)
    proposal = Proposal(gibbs, stored_states(gibbs, generator))
    drawn = proposal.sample(4, generator)
    turned = drawn._replace(log_weights=drawn.log_weights.roll(1, 1), mean=drawn.mean.roll(1, 1))
    if not equal:
        turned = turned._replace(
            precision=drawn.precision.roll(1, 1), log_det=drawn.log_det.roll(1, 1)
        )
    torch.testing.assert_close(proposal.log_density(turned), proposal.log_density(drawn))


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("equal", [False, True])
def test_a_proposal_has_the_mass_one(kind: str, equal: bool):
    """Between two proposals of other states: the mean of either ratio bounded by their mixture."""
    generator = torch.Generator().manual_seed(1)
    gibbs = gibbs_of(kind, equal=equal)
    first, second = (Proposal(gibbs, stored_states(gibbs, generator)) for _ in range(2))
    drawn = first.sample(6000, generator)
    one, other = first.log_density(drawn), second.log_density(drawn)
    back = second.sample(6000, generator)
    one_back, other_back = first.log_density(back), second.log_density(back)
    # The mass of the second in draws of both: half of it from each.
    shares = torch.sigmoid(other - one), torch.sigmoid(other_back - one_back)
    mass = shares[0].mean() + shares[1].mean()
    error = math.hypot(*(float(share.std()) / math.sqrt(6000) for share in shares))
    assert abs(float(mass) - 1.0) < 4 * error
