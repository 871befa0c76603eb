"""Preconditioning by a flow: a model or an energy seen in the coordinates where it is round."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributions import TransformedDistribution

from pyro_ebm.annealing.freeze import as_target
from pyro_ebm.target import Target

from .distribution import FlowDistribution
from .modules import frozen, own_copy
from .result import FittedFlow


def transported(model: Any, flow: Any, *args: Any, **kwargs: Any) -> Target:
    """The target of z with x = T(z), T the map of a flow from its base to its values.

    Kernels take it as they take any target, ``MCMC(NUTS(transported(model, flow)), ...)``; samples,
    diagnostics and ArviZ data are those of the model's own sites. The density has the flow's log
    determinant in it, so that the draws are those of the model, whatever the flow is: one that fits
    makes them cheap, one that does not fit makes them dear.

    Of zuko's flows NICE, RealNVP, NSF, NCSF and MAF go. What is paid in every gradient is the way
    from z to x: one or two passes through the networks for couplings (NICE, RealNVP, and any of the
    others with ``passes=2``), one for every coordinate for MAF, NSF and NCSF as they come.

    :param model: a Pyro model, whose arguments follow, or an EnergyDistribution, Energy or Target.
    :param flow: what :func:`fit_flow` or :func:`fit_flow_to_target` gave; a flow of zuko's over the
        model's unconstrained coordinates; or a Pyro or torch TransformedDistribution of vectors.
        Flows of zuko's are copied: training one further does not change the target.
    :raises TypeError: no such model or flow; a model with discrete states.
    :raises ValueError: a flow over other vectors; one without a transform; one that
        torch.func.vmap cannot take.

    Source: Hoffman et al. (2019), NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using
    neural transport.
    """
    target = as_target(model, args, kwargs)
    like = torch.empty((), dtype=target.dtype, device=target.device)
    if isinstance(flow, FittedFlow):
        flow = flow.distribution
    if isinstance(flow, TransformedDistribution):
        return target.transported(torch.distributions.ComposeTransform(flow.transforms))
    if isinstance(flow, FlowDistribution):
        if tuple(flow.event_shape) != (target.dim,):
            raise ValueError(
                f"expected a flow over the {target.dim} unconstrained coordinates of the target, "
                f"got one over vectors of {len(flow.loc)} numbers."
            )
        made = flow.converted(like)
    elif isinstance(flow, nn.Module):
        zeros = like.new_zeros(target.dim)
        made = FlowDistribution(frozen(own_copy(flow, target.dim, like=like)), zeros, zeros + 1)
    else:
        raise TypeError(
            "expected a fitted flow, its distribution, a zuko flow or a TransformedDistribution, "
            f"got {type(flow).__name__}."
        )
    return target.transported(made.transform)
