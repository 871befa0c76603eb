"""Fitting a flow to data by maximum likelihood, as a Pyro model without latent sites.

The rows are an observed site of which the flow is the distribution; a guide has nothing to guess,
so that minus the evidence bound of stochastic variational inference is the mean of -log p over a
batch, and following its gradient is maximum likelihood. Flows overfit: training stops when rows
that are held out have had no better density for a while, and the best state is the one given back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor

from .distribution import FlowDistribution
from .modules import default_flow, frozen, own_copy
from .result import FittedFlow, FlowHistory
from .rows import permuted, split_rows
from .training import MakeOptimizer, Plan, check_count, optimizer_of, train

# Rows held out are judged so many at a time.
_JUDGED_AT_ONCE = 16_384


def fit_flow(
    data: Any,
    flow: Any = None,
    *,
    held_out: Any = 0.1,
    epochs: int = 500,
    patience: int = 30,
    batch_size: int = 256,
    optimizer: MakeOptimizer | None = None,
    generator: torch.Generator | None = None,
    disable_progbar: bool = False,
) -> FittedFlow:
    """Fit a flow to rows, or to the draws of a run, by maximum likelihood.

    On Ctrl-C the best state so far is given back. Where no epoch is better than the start, as
    the learning rate is too high, a :class:`.DivergedWarning` says so. The flow given is copied,
    and not changed.

    :param data: rows [n, dim] of real numbers, a tensor, an array or a data frame; or a finished
        :class:`MCMC` run, of which the flow learns the unconstrained coordinates in the order of
        ``Target.sites``, as ``base=`` of :class:`AIS` and :func:`transported` take it.
    :param flow: a flow of zuko's with ``dim`` features and no context; coupling splines unless
        given. It sees standardised columns.
    :param held_out: the fraction of rows that decides when to stop, drawn at random, or such rows.
        Of a run whole chains are held out.
    :param epochs: passes over the rows, at most.
    :param patience: the number of epochs without a better state after which training ends.
    :param batch_size: rows in a step.
    :param optimizer: made of parameters: ``functools.partial(torch.optim.Adam, lr=...)``, say.
        Adam with a learning rate of 0.001 unless given.
    :param generator: seeds the default flow, the split and the batches; made of torch's seed unless
        given.
    :param disable_progbar: no progress bar; there is none anyway when the output is no terminal.
    :raises TypeError: data that are no real numbers; no flow.
    :raises ValueError: rows of another shape, or not finite; a constant column; a flow over other
        vectors, or one with a context.
    :raises ImportError: no flow is given and zuko is missing.
    """
    plan = Plan(epochs, patience).checked()
    check_count("batch_size", batch_size)
    if generator is None:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    rows = split_rows(data, held_out, generator)
    loc, scale = rows.scale()
    if flow is None:
        flow = default_flow(len(loc), generator=generator)
    flow = own_copy(flow, len(loc), like=loc).requires_grad_(True)
    density = FlowDistribution(flow, loc, scale, validate_args=False)
    elbo: Any = Trace_ELBO()

    def model(batch: Tensor) -> None:
        pyro.module("flow", flow)
        with pyro.plate("rows", len(batch)), poutine.scale(scale=1 / len(batch)):
            pyro.sample("x", density, obs=batch)

    def losses() -> Iterator[Tensor]:
        order = permuted(len(rows.train), generator).to(loc.device)
        for chosen in order.split(batch_size):
            yield elbo.differentiable_loss(model, _no_guess, rows.train[chosen])

    def judge() -> float:
        flow.eval()
        with torch.no_grad():
            parts = rows.held_out.split(_JUDGED_AT_ONCE)
            total = sum(density.log_prob(part).double().sum() for part in parts)
        return -float(total) / len(rows.held_out)

    trained = train(
        flow,
        plan,
        losses=losses,
        judge=judge,
        optimizer=optimizer_of(flow, optimizer),
        disable_progbar=disable_progbar,
    )
    history = FlowHistory(trained.train, trained.held_out)
    fitted = FlowDistribution(frozen(flow), loc, scale)
    return FittedFlow(fitted, history, trained.value, trained.best, trained.stopped)


def _no_guess(batch: Tensor) -> None:
    """The guide of a model without latent sites."""
