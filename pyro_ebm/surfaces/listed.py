"""log Z(theta) of an exponential family from a list of all its configurations, made once.

Where E(x; theta) = E_0(x) + sum_k theta_k s_k(x), configurations with equal (E_0, s) are one level,
and log Z(theta) = log sum over levels of g exp(-E/T), with g how many configurations a level has.
Millions of configurations have some hundreds of levels, so that log Z and its gradient, minus the
means of s over T, cost next to nothing at any theta.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.energies import Energy, as_energy, evaluate
from pyro_ebm.energies.enumeration import MAX_CONFIGURATIONS, configurations, count_configurations

_CHUNK, _CHECKED = 2**15, 64
# Levels are told apart to so many digits of the largest.
_DIGITS = 1e-9


class ListedLogNormalizer(NamedTuple):
    """log Z as a function f(*params, temperature), for ``log_normalizer=``.

    ``statistics`` [levels, 1 + num_params] are E_0 and the s_k of every level, ``log_counts``
    [levels] the logarithms of how many configurations have them, in float64.
    """

    statistics: Float[Tensor, "levels k"]
    log_counts: Float[Tensor, " levels"]

    def __call__(self, *params_and_temperature: Tensor | float) -> Tensor:
        """log Z [*batch], of params [*batch] each, and last of all the temperature.

        :raises TypeError: another number of params.
        """
        wanted = self.statistics.shape[1]
        if len(params_and_temperature) != wanted:
            raise TypeError(
                f"expected {wanted - 1} params and a temperature, got "
                f"{len(params_and_temperature)} arguments."
            )
        *params, temperature = (torch.as_tensor(value) for value in params_and_temperature)
        statistics = self.statistics.to(temperature.device)
        energy = statistics[:, 0]
        for param, column in zip(params, statistics.unbind(1)[1:], strict=True):
            energy = energy + param.double().unsqueeze(-1) * column
        log_weights = self.log_counts.to(temperature.device) - energy / temperature.unsqueeze(-1)
        return log_weights.logsumexp(-1).to(params[0] if params else torch.get_default_dtype())


def listed_log_normalizer(
    energy: object, num_params: int, *, event_shape: object = None, support: object = None
) -> ListedLogNormalizer:
    """The exact log Z of an energy linear in its params, of 2^22 configurations at most.

    Args:
        energy: E(x, *params), as :class:`~pyro_ebm.EnergyDistribution` takes it.
        num_params: how many params it takes, each a number.
        event_shape: the shape of one configuration; None means the energy's own.
        support: its states; None means the energy's own.

    Raises:
        ValueError: more configurations than 2^22, or not finitely many states; an energy that is
            not linear in its params.
    """
    listed = as_energy(energy, event_shape=event_shape, support=support)
    count = count_configurations(listed)
    if count > MAX_CONFIGURATIONS:
        raise ValueError(
            f"expected at most 2^22 configurations to list, got {count:.4g}. Use "
            "log_normalizer_surface, which estimates log Z, or MCMC(Exchange(model))."
        )
    with torch.no_grad():
        _check_linear(listed, count, num_params)
        levels = torch.zeros(0, 1 + num_params, dtype=torch.float64)
        counts = levels.new_zeros(0)
        for first in range(0, count, _CHUNK):
            number = torch.arange(first, min(first + _CHUNK, count))
            rows = _statistics(listed, configurations(listed, number), num_params)
            found, how_many = _distinct(rows, torch.ones(len(rows), dtype=torch.float64))
            levels, counts = _distinct(torch.cat([levels, found]), torch.cat([counts, how_many]))
        return ListedLogNormalizer(levels, counts.log())


def _statistics(energy: Energy, x: Tensor, num_params: int) -> Tensor:
    """E_0 and the s_k of configurations [n, 1 + num_params]."""
    zero = [x.new_zeros(()).double()] * num_params
    at_zero = evaluate(energy, x, zero).double()
    columns = [at_zero]
    for k in range(num_params):
        unit = [*zero[:k], zero[0] + 1, *zero[k + 1 :]]
        columns.append(evaluate(energy, x, unit).double() - at_zero)
    return torch.stack(columns, -1)


def _distinct(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that differ, and the sum of the counts of equal ones."""
    scale = rows.abs().amax(0).clamp(min=1.0) * _DIGITS
    keys, which = (rows / scale).round().unique(dim=0, return_inverse=True)
    total = counts.new_zeros(len(keys)).index_add_(0, which, counts)
    representative = rows.new_zeros(keys.shape).index_copy_(0, which, rows)
    return representative, total


def _check_linear(energy: Energy, count: int, num_params: int) -> None:
    """Compare the energy at some params with what linearity says, at random configurations.

    :raises ValueError: they differ.
    """
    generator = torch.Generator().manual_seed(0)
    x = configurations(energy, torch.randint(count, (_CHECKED,), generator=generator))
    statistics = _statistics(energy, x, num_params)
    for _ in range(3):
        params = torch.randn(num_params, generator=generator, dtype=torch.float64)
        right = statistics[:, 0] + statistics[:, 1:] @ params
        seen = evaluate(energy, x, list(params)).double()
        size = 1 + right.abs().max() + seen.abs().max()
        if not bool(((seen - right).abs() <= 1e-5 * size).all()):
            raise ValueError(
                f"expected an energy that is linear in its {num_params} params, got one that "
                f"is not: at {[round(float(p), 3) for p in params]} it differs by "
                f"{float((seen - right).abs().max()):.3g} from what its values at 0 and 1 say. "
                "Use log_normalizer_surface, or MCMC(Exchange(model))."
            )
