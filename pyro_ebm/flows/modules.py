"""The modules that flows are: zuko's lazy distributions, which build p(x) when they are called."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

_TRANSFORMS, _HIDDEN = 4, (64, 64)


def default_flow(dim: int, *, generator: torch.Generator) -> nn.Module:
    """Coupling splines on ``dim`` numbers: cheap both ways, for densities and for draws.

    :raises ImportError: zuko is missing.

    Source: Durkan et al. (2019), Neural spline flows.
    """
    try:
        from zuko.flows import NSF
    except ImportError as error:
        raise ImportError(
            "Without flow=, fit_flow takes one of zuko's, which is not installed. Install it with "
            "pip install 'pyro_ebm[flows]'."
        ) from error
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        # Two passes make the autoregression a coupling.
        return NSF(dim, transforms=_TRANSFORMS, hidden_features=_HIDDEN, passes=2, randperm=dim > 2)


def own_copy(flow: Any, dim: int, *, like: Tensor) -> nn.Module:
    """A copy of a flow over vectors of ``dim`` numbers, of the dtype and on the device of others.

    :raises TypeError: no module.
    :raises ValueError: a module that builds no distribution over such vectors.
    """
    if not isinstance(flow, nn.Module) or isinstance(flow, Distribution):
        raise TypeError(
            "expected flow to be a zuko flow (zuko.flows.NSF(dim), say), or a module that gives a "
            f"distribution when it is called without arguments, got {type(flow).__name__}."
        )
    made = copy.deepcopy(flow).to(dtype=like.dtype, device=like.device)
    built = _built_by(made)
    if tuple(built.batch_shape) or tuple(built.event_shape) != (dim,):
        raise ValueError(
            f"expected a flow over vectors of {dim} numbers, got one with batch shape "
            f"{tuple(built.batch_shape)} and event shape {tuple(built.event_shape)}. Build it with "
            f"{dim} features."
        )
    try:
        with torch.no_grad():
            built.log_prob(like.new_zeros(1, dim))
    except RuntimeError as error:
        raise _without_context(error) from error
    return made


def _built_by(flow: nn.Module) -> Any:
    """The distribution that a flow builds.

    :raises ValueError: it builds none without a context.
    """
    try:
        built = flow()
    except (TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise _without_context(error) from error
    if not isinstance(built, Distribution):
        raise ValueError(
            f"expected a flow that builds a distribution, got one that builds {type(built)}."
        )
    return built


def _without_context(error: Exception) -> ValueError:
    return ValueError(
        "expected a flow that takes no context, got one that fails without "
        f"({type(error).__name__}: {error})."
    )


def frozen(flow: nn.Module) -> nn.Module:
    """The same module, of which nothing is learned any more."""
    return flow.eval().requires_grad_(False)
