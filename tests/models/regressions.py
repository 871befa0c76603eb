"""Regressions on real tables: flat priors with the right support, weak priors, a logistic one."""

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

from .priors import flat


def logearn_height_male(height, male, earn=None):
    beta = flat("beta", constraints.real_vector, (3,))
    sigma = flat("sigma", constraints.positive)
    with pyro.plate("person", len(height)):
        mean = beta[0] + beta[1] * height + beta[2] * male
        return pyro.sample("earn", dist.LogNormal(mean, sigma), obs=earn)


def kidscore_momiq(mom_iq, kid_score=None):
    beta = flat("beta", constraints.real_vector, (2,))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("child", len(mom_iq)):
        mean = beta[0] + beta[1] * mom_iq
        return pyro.sample("kid_score", dist.Normal(mean, sigma), obs=kid_score)


def kidscore_interaction(mom_hs, mom_iq, kid_score=None):
    beta = flat("beta", constraints.real_vector, (4,))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("child", len(mom_iq)):
        mean = beta[0] + beta[1] * mom_hs + beta[2] * mom_iq + beta[3] * mom_hs * mom_iq
        return pyro.sample("kid_score", dist.Normal(mean, sigma), obs=kid_score)


def logmesquite(diam1, diam2, canopy_height, total_height, density, group, weight=None):
    sizes = [diam1, diam2, canopy_height, total_height, density]
    features = torch.stack([torch.ones_like(group), *(size.log() for size in sizes), group], dim=1)
    beta = flat("beta", constraints.real_vector, (7,))
    sigma = flat("sigma", constraints.positive)
    with pyro.plate("bush", len(group)):
        return pyro.sample("weight", dist.LogNormal(features @ beta, sigma), obs=weight)


def nes(real_ideo, race_adj, age_discrete, educ1, gender, income, partyid7=None):
    ages = [(age_discrete == group).to(educ1.dtype) for group in (2, 3, 4)]
    features = torch.stack(
        [torch.ones_like(educ1), real_ideo, race_adj, *ages, educ1, gender, income], dim=1
    )
    beta = flat("beta", constraints.real_vector, (9,))
    sigma = flat("sigma", constraints.positive)
    with pyro.plate("voter", len(income)):
        return pyro.sample("partyid7", dist.Normal(features @ beta, sigma), obs=partyid7)


def blr(X, y=None):
    with pyro.plate("feature", X.shape[1]):
        beta = pyro.sample("beta", dist.Normal(0.0, 10.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    with pyro.plate("row", len(X)):
        return pyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def german_credit(X, prior_scale, y=None):
    """Logistic regression of bad credit risks; the last column of X is one."""
    prior = dist.Normal(0.0, prior_scale).expand([X.shape[1]]).to_event(1)
    beta = pyro.sample("beta", prior)
    with pyro.plate("applicant", len(X)):
        return pyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)
