"""A mixture of Gaussians as a Pyro model, memberships summed out.

A full covariance is C B^-1 B^-T C', with C C' the scale of its inverse Wishart and B lower
triangular, the squares of its diagonal chi-squared and what is below it standard normal: sites that
every sampler of Pyro takes, where an inverse Wishart would be none.
"""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from .prior import Hyper


def mixture_model(
    rows: Tensor, hyper: Hyper, num_components: int, *, equal_variance: bool, scalar: bool
) -> None:
    """The sites ``weight`` (of more than one component), ``mean`` and ``variance``, or the factors
    of the deterministic site ``covariance``; ``x`` is observed.

    :param rows: [n, d].
    :param scalar: whether the data have no axis of dimensions, and so the sites.
    """
    weights = rows.new_ones(1)
    if num_components > 1:
        concentration = rows.new_full((num_components,), hyper.concentration)
        weights = pyro.sample("weight", dist.Dirichlet(concentration))
    components = pyro.plate("component", num_components)
    loc, width = (hyper.mean_loc[0], hyper.mean_tril[0]) if scalar else hyper[:2]
    with components:
        if hyper.full:
            mean = pyro.sample("mean", dist.MultivariateNormal(loc, scale_tril=width))
        elif scalar:
            mean = pyro.sample("mean", dist.Normal(loc, width))
        else:
            mean = pyro.sample("mean", dist.Normal(loc, width).to_event(1))
    if equal_variance:
        spread = _spread(hyper, scalar)
        spread = spread.expand(num_components, *spread.shape)
    else:
        with components:
            spread = _spread(hyper, scalar)
    if hyper.full:
        each = dist.MultivariateNormal(mean, scale_tril=spread)
    elif scalar:
        each = dist.Normal(mean, spread)
    else:
        each = dist.Normal(mean, spread).to_event(1)
    mixed = dist.MixtureSameFamily(dist.Categorical(probs=weights), each)
    with pyro.plate("row", len(rows)):
        pyro.sample("x", mixed, obs=rows[:, 0] if scalar else rows)


def _spread(hyper: Hyper, scalar: bool) -> Tensor:
    """Standard deviations, or lower Cholesky factors of covariances."""
    if not hyper.full:
        scale = hyper.scale[0] if scalar else hyper.scale
        prior = dist.InverseGamma(torch.full_like(scale, hyper.shape), scale)
        return pyro.sample("variance", prior if scalar else prior.to_event(1)).sqrt()
    d = len(hyper.scale)
    degrees = hyper.degrees - d + torch.arange(1, d + 1).to(hyper.scale)
    half = torch.full_like(degrees, 0.5)
    diagonal = pyro.sample("factor_diagonal", dist.Gamma(0.5 * degrees, half).to_event(1))
    factor = torch.diag_embed(diagonal.sqrt())
    if d > 1:
        place = torch.tril_indices(d, d, -1)
        zero = hyper.scale.new_zeros(place.shape[1])
        below = pyro.sample("factor_below", dist.Normal(zero, 1.0).to_event(1))
        unit = factor.new_zeros(place.shape[1], d, d)
        unit[torch.arange(place.shape[1]), place[0], place[1]] = 1.0
        factor = factor + torch.einsum("...k,kij->...ij", below, unit)
    root = math.sqrt(2.0) * torch.linalg.cholesky(hyper.scale)
    tril = torch.linalg.solve_triangular(factor.mT, root.mT.expand_as(factor), upper=True).mT
    pyro.deterministic("covariance", tril @ tril.mT, event_dim=2)
    return tril
