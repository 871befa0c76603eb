"""Draws of a model for those who give only the model: how many is found out while it runs."""

from __future__ import annotations

import warnings
from typing import Any

from .auto_kernel import auto_kernel
from .diagnosis import diagnose, findings
from .kernels import NUTS
from .mcmc import MCMC
from .stopping import UntilESS, check_stop

_CHAINS, _FEWEST_CHAINS, _WARMUP = 64, 8, 150
# Nobody has looked at the model: some more gradients are spent against divergences.
_ACCEPTANCE = 0.9
# Draws of a chain beyond which more would seldom help.
_MOST_DRAWS = 3200
# Numbers that an evaluation of all chains makes beyond which more chains cost in proportion.
_NUMBERS = 2**26


def sample(
    model: Any,
    *args: Any,
    stop: Any = None,
    num_chains: int | None = None,
    warmup_steps: int = _WARMUP,
    max_samples: int = _MOST_DRAWS,
    disable_progbar: bool = False,
    **kwargs: Any,
) -> Any:
    """Sample a model by NUTS, at an acceptance rate of 0.9, until the draws are worth enough, as
    ArviZ data; a discrete energy by the kernel that :func:`.auto_kernel` chooses.

    The attributes of the data hold what was chosen, the sentences of the diagnosis among them.

    Args:
        model: a Pyro model, an EnergyDistribution, an Energy or a Target.
        args: arguments of the model, as are keyword arguments that are not named here.
        stop: when it is enough; `UntilESS(1000)` unless given.
        num_chains: 64 unless given, fewer where one evaluation of the model is large.
        warmup_steps: transitions of every chain before.
        max_samples: draws of every chain at most.
        disable_progbar: no progress bar; there is none anyway off a terminal.

    Raises:
        ValueError: the model cannot be sampled rightly, or no start can be found.
        TypeError: no model, or arguments that it does not take.

    Warns:
        UserWarning: what the diagnosis finds wrong with the draws, an end at `max_samples` before
            they were worth enough among it.
    """
    check_stop(stop)
    rule = UntilESS() if stop is None else stop
    target = auto_kernel(model).target(args, kwargs, None)
    chains = num_chains
    if chains is None:
        chains = _CHAINS
        while chains > _FEWEST_CHAINS and chains * target.numbers_in_memory > _NUMBERS:
            chains //= 2
    mcmc = MCMC(
        NUTS(target, target_accept_prob=_ACCEPTANCE)
        if target.num_states is None
        else auto_kernel(target),
        max_samples,
        warmup_steps,
        num_chains=chains,
        disable_progbar=disable_progbar,
        stop=rule,
    )
    mcmc.run()
    record = mcmc.record
    problems = [finding for finding in findings(record) if finding.severity != "note"]
    text = diagnose(record)
    positions = record.positions.permute(1, 2, 0)
    enough = record.attrs["stopped"] or rule.is_enough(positions, record.superchain_ids)
    if not enough:
        text = (
            f"{record.num_draws} draws of {chains} chains are not worth {rule.ess:g} in every "
            f"coordinate, or the chains do not agree.\n{text}"
        )
    if problems or not enough:
        warnings.warn(text, stacklevel=2)
    data = mcmc.to_arviz()
    data.posterior.attrs["diagnosis"] = text
    return data
