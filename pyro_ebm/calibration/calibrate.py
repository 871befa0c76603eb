"""Simulation-based calibration: if data come from the model, posteriors must cover the truth.

Draw parameters from the prior and data from the model at these parameters, then sample the
posterior of those data. Averaged over the joint distribution, the true parameter is one more draw
from its posterior, so its rank among L independent draws is uniform on 0..L. Whatever breaks the
chain from model to draws (a forgotten Jacobian, a wrong scale, a kernel that is not invariant)
bends the distribution of the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.mcmc.api.kernels import HMC, NUTS
from pyro_ebm.target import Side, Target
from pyro_ebm.target.program import ModelProgram

from .posteriors import for_side_values, sample_posteriors
from .result import Calibration, slow_chains
from .simulation import Simulations, fitted, simulate

_LEAST = {"num_simulations": 20, "num_draws": 9, "warmup_steps": 50, "thinning": 1}


def calibrate(
    model: Callable,
    *args: Any,
    observed: Iterable[str] = (),
    num_simulations: int = 200,
    num_draws: int = 99,
    thinning: int | None = None,
    warmup_steps: int = 200,
    kernel: Callable[[Callable], NUTS | HMC] = NUTS,
    probability: float = 0.99,
    **kwargs: Any,
) -> Calibration:
    """Ranks of true parameters among posterior draws, all simulated data sets in one run.

    With theta* from the prior, y from p(y | theta*) and draws theta_1, ..., theta_L from the
    posterior of y, the rank of f(theta*, y) among f(theta_l, y) is uniform on 0..L for every f.
    Tested are each element of the continuous latent sites, of the deterministic sites (those that
    depend on no discrete latent site), and the log density of parameters and data together,
    which sees what single parameters hide.

    :param model: a Pyro model, and its arguments. Of the data only the shapes are used: every
        observed site is drawn anew. Values that the model uses besides (covariates, lags) stay.
    :param observed: data sites of a model that is called without its data.
    :param num_simulations: data sets, and chains: one for each.
    :param num_draws: L, posterior draws that a true value is ranked among.
    :param thinning: transitions from one draw to the next; None chooses as many as make draws of
        slow chains nearly independent.
    :param warmup_steps: transitions of every chain before its draws, after a few short rounds that
        find the place and width of every posterior.
    :param kernel: what makes the kernel of a model: NUTS, HMC, or a function of the model such as
        ``lambda model: NUTS(model, target_accept_prob=0.9)``. Step sizes are in units of the
        width of each posterior.
    :param probability: of a right sampler to pass, over all tests together.
    :raises TypeError: not a Pyro model, or not a kernel.
    :raises ValueError: a model without data; one whose density is not what it simulates (factors,
        scales, masked latents, improper priors, energies without an exact sampler); sites or
        shapes that change from run to run; simulated values that are not finite; counts or a
        probability out of range.

    Source: Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian inference
    algorithms with simulation-based calibration; Modrák et al. (2023), Simulation-based calibration
    checking for Bayesian computation: the choice of test quantities shapes sensitivity.
    """
    _check_model(model)
    given = {
        "num_simulations": num_simulations,
        "num_draws": num_draws,
        "warmup_steps": warmup_steps,
        "thinning": 1 if thinning is None else thinning,
    }
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < _LEAST[name]:
            raise ValueError(
                f"{name} must be a whole number of at least {_LEAST[name]}, got {value}."
            )
    if not 0.5 <= probability < 1.0:
        raise ValueError(f"probability must lie in [0.5, 1), got {probability}.")
    observed = (observed,) if isinstance(observed, str) else tuple(observed)
    simulations = simulate(model, args, kwargs, observed=observed, num_simulations=num_simulations)
    with poutine.block():
        chosen = kernel(fitted(model, simulations.data))
        if not isinstance(chosen, NUTS | HMC):
            raise TypeError(
                "kernel= must make a pyro_ebm.NUTS or HMC of a model, got "
                f"{type(chosen).__module__}.{type(chosen).__name__}."
            )
        target = chosen.marginal_target(args, kwargs)
        program = _check_target(target, simulations)
        truth = simulations.unconstrained(target.sites, program.transforms)
        truth = truth.to(dtype=target.dtype, device=target.device)
        side = Side(None, {n: v.to(target.device) for n, v in simulations.data.items()})
        target = for_side_values(target, side, truth.T)
        seed = int(torch.randint(2**63 - 1, ()))
        posteriors = sample_posteriors(
            target,
            chosen,
            side,
            num_simulations=num_simulations,
            num_draws=num_draws,
            thinning=thinning,
            warmup_steps=warmup_steps,
            generator=torch.Generator(target.device).manual_seed(seed),
        )
        true_log_density, _ = target.log_density_and_gradient(truth.T.contiguous(), side)
        ranks = _ranks_of_sites(target, simulations, side, truth, posteriors.positions)
    name = "log_density"
    while name in ranks:
        name += "_"
    ranks[name] = _finish(name, *_compare(true_log_density, posteriors.log_density.T))
    return Calibration(
        ranks=ranks,
        num_draws=num_draws,
        probability=probability,
        prior=simulations.latents,
        data=simulations.data,
        slow_chains=slow_chains(posteriors.ess, num_draws),
        divergences=posteriors.diverging,
        thinning=posteriors.thinning,
    )


def _check_model(model: object) -> None:
    bare = isinstance(model, Target | Energy) or hasattr(model, "log_prob")
    if bare or not callable(model):
        raise TypeError(
            "Expected a Pyro model with data sites to simulate, got "
            f"{type(model).__name__}: a bare density has no data to be calibrated on."
        )


def _check_target(target: Target, simulations: Simulations) -> ModelProgram:
    """The kernel's model, which may be another than the simulated one, must have the same sites."""
    program = target.program
    if not isinstance(program, ModelProgram):
        raise TypeError("The kernel must be made of a Pyro model, so that data can be put into it.")
    missing = [name for name in simulations.data if name not in program.first_trace.nodes]
    if missing:
        raise ValueError(f"The model of the kernel lacks the data sites {missing}.")
    for site in target.sites:
        if site.name not in simulations.latents:
            raise ValueError(
                f"The model of the kernel has the latent site '{site.name}', which the simulated "
                f"model has not; its latent sites are {sorted(simulations.latents)}."
            )
        shape = tuple(simulations.latents[site.name].shape[1:])
        if shape != tuple(site.shape):
            raise ValueError(
                f"Site '{site.name}' is simulated with shape {shape}, and sampled with shape "
                f"{tuple(site.shape)}. Give it the same shape in both."
            )
    return program


def _ranks_of_sites(
    target: Target, simulations: Simulations, side: Side, truth: Tensor, positions: Tensor
) -> dict[str, Tensor]:
    """Ranks [simulation, *event] of latent and deterministic sites among the draws."""
    true_terms = target.evaluate(truth, side)
    simulated = simulations.runs[0]
    true_values = {site.name: simulations.latents[site.name] for site in target.sites}
    # Enumeration gives a site that depends on a discrete one more dimensions than it has.
    true_values |= {
        name: value
        for name, value in true_terms.deterministics.items()
        if name in simulated and simulated[name]["value"].shape == value.shape[1:]
    }
    counts = {name: [] for name in true_values}
    # One draw of every chain at a time: the data need not be repeated for all draws.
    for row in positions.unbind(1):
        terms = target.evaluate(row, side)
        drawn = {**terms.latents, **terms.deterministics}
        for name, value in true_values.items():
            counts[name].append(_compare(value.to(drawn[name].device), drawn[name][None]))
    ranks = {}
    for name, pairs in counts.items():
        below, equal = (torch.stack(part).sum(0) for part in zip(*pairs, strict=True))
        ranks[name] = _finish(name, below, equal)
    return ranks


def _compare(truth: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """How many of the draws [draw, ...] lie below the true value [...], and how many are equal."""
    unordered = truth.isnan() | draws.isnan()
    below = torch.where(unordered, torch.nan, (draws < truth).double())
    return below.sum(0), (draws == truth).sum(0)


def _finish(name: str, below: Tensor, equal: Tensor) -> Tensor:
    """The ranks, with ties broken at random."""
    if bool(below.isnan().any()):
        raise ValueError(
            f"'{name}' is NaN in {int(below.isnan().sum())} of its values, so it has no rank. "
            "Make it a number for all values of the latent sites."
        )
    share = torch.rand(equal.shape, dtype=torch.float64)
    return below.long().cpu() + (share * (equal.cpu() + 1)).long()
