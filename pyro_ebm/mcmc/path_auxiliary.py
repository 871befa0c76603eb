"""Path auxiliary proposals: a walk of several changes, chosen by one look at all of them.

From x a path of L different sites is drawn, one after the other, each with probability proportional
to w_i(x) = sum over k of g(exp changes[i, k]) among those that are left, and a new state for each;
y is where it ends. The way back is the same path from y, its order turned round, by the weights
w(y). The path is a variable beside the configuration, so that

    p(y) q(back | y) / (p(x) q(path | x))

decides. Only the ends of a path are evaluated. The balance g(t) = t / (1 + t) bounds every weight.
Lengths are spread evenly over 1 to 2 U - 1; warm-up tunes their mean U, in the place of a step
size, to an acceptance rate.

Source: Sun, Dai, Xia, Ramamoorthy, Schuurmans (2022), Path auxiliary proposal for MCMC in discrete
space (its fast version); Zanella (2020), Informed proposals for local MCMC in discrete spaces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .discrete import (
    DiscreteState,
    LogDensityAndChanges,
    Proposed,
    at,
    drawn,
    here,
    judge,
    set_out,
    start,
)
from .kernel import Kernel, Noise, Settings, Transition


def path_auxiliary(dim: int, *, num_steps: int = 1) -> Kernel:
    """Paths of the mean length that ``settings.step_size`` says.

    :param dim: the number of sites.
    :param num_steps: proposals of a transition.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")

    def step(
        density: LogDensityAndChanges, state: DiscreteState, noise: Noise, settings: Settings
    ) -> tuple[DiscreteState, Transition]:
        state = set_out(state, settings)
        for_order, for_states, (for_length, for_judge) = noise.uniform.split([dim, dim, 2])
        length = (1.0 + for_length * (2.0 * state.step_size - 1.0)).floor().clamp(1, dim)
        log_weight = _log_weights(state.position, state.changes)
        site_weight = log_weight.logsumexp(1)
        # The largest of weights in Gumbel noise, in their order, are a draw without replacement.
        gumbel = -(-for_order.clamp(min=torch.finfo(for_order.dtype).tiny).log()).log()
        order = (site_weight + gumbel).argsort(0, descending=True)
        first = torch.arange(dim, device=order.device)[:, None] < length
        inside = torch.zeros_like(first).scatter(0, order, first)
        position = torch.where(inside, drawn(log_weight, for_states), state.position)
        log_density, changes = density(position)
        forth = _log_path(
            at(log_weight, position).gather(0, order), site_weight.gather(0, order), first
        )
        log_weight = _log_weights(position, changes)
        site_weight = log_weight.logsumexp(1)
        back = _log_way_back(
            at(log_weight, state.position).gather(0, order), site_weight.gather(0, order), first
        )
        new = Proposed(position, log_density, changes, (back - forth).to(log_density))
        return judge(state, new, for_judge, num_steps=num_steps)

    return Kernel(start, step, uniforms=2 * dim + 2, normals=False)


def _log_weights(position: Tensor, changes: Tensor) -> Tensor:
    """log g(exp changes) [dim, K, chains], that of the present state minus infinity."""
    weight = torch.nn.functional.logsigmoid(changes)
    return torch.where(here(position, changes), -torch.inf, weight)


def _log_path(taken: Tensor, sites: Tensor, first: Tensor) -> Tensor:
    """The log probability of a path: what is ``taken`` at each site over all that is left there.

    :param taken: log weights of the changes made [dim, chains], sites in the order drawn.
    :param sites: log weights of the sites, in the same order.
    :param first: which of them are on the path.
    """
    left = sites.double().flip(0).logcumsumexp(0).flip(0)
    return torch.where(first, taken - left, 0.0).sum(0)


def _log_way_back(taken: Tensor, sites: Tensor, first: Tensor) -> Tensor:
    """The same for the path in reverse order, last site first: what is left for a site are those
    off the path, and those that came before it on the way there."""
    outside = torch.where(first, -torch.inf, sites.double()).logsumexp(0)
    left = torch.logaddexp(sites.double().logcumsumexp(0), outside)
    return torch.where(first, taken - left, 0.0).sum(0)
