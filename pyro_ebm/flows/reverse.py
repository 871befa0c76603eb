"""Fitting a flow to a density rather than to draws of it: variational inference.

Draws x = T(z) of the flow q are weighed by the target p, and the flow follows the gradient of

    KL(q || p) - log Z = E_q [ log q(x) - log p(x) ] ,

which needs no draw of p. A flow so fitted is right where it puts its mass, and may miss what it
never visits: far modes, and tails that are wider than its own.

Source: Rezende, Mohamed (2015), Variational inference with normalizing flows; for preconditioning
by it Hoffman et al. (2019), NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using neural
transport.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ebm.annealing.freeze import as_target
from pyro_ebm.target import Target

from .distribution import FlowDistribution
from .modules import default_flow, frozen, own_copy
from .result import FittedFlow, FlowHistory
from .training import MakeOptimizer, Plan, check_count, optimizer_of, train

_JUDGED = 2048


def fit_flow_to_target(
    model: Any,
    *args: Any,
    flow: Any = None,
    epochs: int = 100,
    patience: int = 20,
    steps: int = 50,
    num_particles: int = 256,
    optimizer: MakeOptimizer | None = None,
    generator: torch.Generator | None = None,
    disable_progbar: bool = False,
    **kwargs: Any,
) -> FittedFlow:
    """Fit a flow to the unconstrained density of a model, an energy or a Target.

    On Ctrl-C the best state so far is given back. Where no epoch is better than the start, as
    the learning rate is too high, a :class:`.DivergedWarning` says so. The flow given is copied,
    and not changed.

    :param model: a Pyro model, whose arguments follow; or an EnergyDistribution, Energy or
        Target.
    :param flow: a flow of zuko's over the target's unconstrained coordinates, or what
        :func:`fit_flow` gave, to go on from there; coupling splines unless given. Draws of MAF,
        NSF and NCSF take a pass for every coordinate unless they are made with ``passes=2``.
    :param epochs: looks at how good the flow is, at most.
    :param patience: the number of looks without a better state after which training ends.
    :param steps: steps between two looks.
    :param num_particles: draws of the flow in a step.
    :param optimizer: as of :func:`fit_flow`.
    :param generator: seeds the default flow and all draws; made of torch's seed unless given.
    :param disable_progbar: no progress bar.
    :raises TypeError: no such model; no flow.
    :raises ValueError: a flow over other vectors; a target with discrete coordinates.
    :raises ImportError: no flow is given and zuko is missing.
    """
    plan = Plan(epochs, patience).checked()
    check_count("steps", steps)
    check_count("num_particles", num_particles)
    target = as_target(model, args, kwargs)
    if target.num_states is not None or target.sampled:
        raise ValueError("expected a target with continuous coordinates alone, got discrete ones.")
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    like = torch.empty((), dtype=target.dtype, device=target.device)
    loc = like.new_zeros(target.dim)
    scale = torch.ones_like(loc)
    if isinstance(flow, FittedFlow):
        begun = flow.distribution
        flow, loc, scale = begun.flow, begun.loc.to(like), begun.scale.to(like)
    elif flow is None:
        flow = default_flow(target.dim, generator=generator)
    module = own_copy(flow, target.dim, like=like).requires_grad_(True)
    density = _differentiable(target, num_particles)
    judged = _differentiable(target, _JUDGED)
    seeds = torch.randint(2**62, (2,), generator=generator, device=generator.device)
    seed, own_seed = seeds.tolist()
    devices = list(range(torch.cuda.device_count()))

    def losses() -> Iterator[Tensor]:
        for _ in range(steps):
            y, log_q = _drawn(module, num_particles)
            gap = log_q - density(loc + scale * y)
            # Where the target has no density there is no gradient to follow.
            inside = gap.isfinite()
            mean = torch.where(inside, gap, 0.0).sum() / inside.sum().clamp(min=1)
            yield mean - scale.log().sum()

    def judge() -> float:
        module.eval()
        # The same noise every time tells states apart that differ by less than it.
        with torch.no_grad(), torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            y, log_q = _drawn(module, _JUDGED)
            gap = log_q - judged(loc + scale * y)
        return float((gap.double() - scale.double().log().sum()).mean())

    with torch.random.fork_rng(devices):
        # zuko draws from torch's global generator.
        torch.manual_seed(own_seed)
        trained = train(
            module,
            plan,
            losses=losses,
            judge=judge,
            optimizer=optimizer_of(module, optimizer),
            disable_progbar=disable_progbar,
        )
    fitted = FlowDistribution(frozen(module), loc, scale)
    history = FlowHistory(trained.train, trained.held_out)
    return FittedFlow(fitted, history, trained.value, trained.best, trained.stopped)


def _drawn(flow: nn.Module, number: int) -> tuple[Tensor, Tensor]:
    """Draws [n, dim] of a flow with their log density, in one pass where it knows how."""
    built = flow()
    both = getattr(built, "rsample_and_log_prob", None)
    if both is not None:
        return both((number,))
    x = built.rsample((number,))
    return x, built.log_prob(x)


def _differentiable(target: Target, number: int) -> Any:
    """The log density of ``number`` rows at once, with its gradient from the recording."""
    example = torch.zeros(target.dim, number, dtype=target.dtype, device=target.device)
    evaluate = target.recorded.at(example)
    made: Any = _LogDensity.apply
    return lambda x: made(x, evaluate)


class _LogDensity(torch.autograd.Function):
    """A recorded log density of rows [n, dim], of which the gradient is known beside the value."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, evaluate: Any) -> Tensor:
        value, gradient = evaluate(x.detach().T.contiguous())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer[0]).T, None
