"""log Z(theta) of an exponential family from a list of all its configurations, made once.

Where E(x; theta) = E_0(x) + sum_k theta_k s_k(x), configurations with equal (E_0, s) are one level,
and log Z(theta) = log sum over levels of g exp(-E/T), with g how many configurations a level has.
Millions of configurations have some hundreds of levels, so that log Z and its gradient, minus the
means of s over T, cost next to nothing at any theta.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_ebm.annealing.start import check_whole
from pyro_ebm.energies import as_energy
from pyro_ebm.energies.enumeration import MAX_CONFIGURATIONS, configurations, count_configurations

from .box import at_params
from .checks import check_takes
from .linear import LinearEnergy, levels_among, log_z_of_levels

_CHUNK = 2**15


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
        *params, temperature = (_as_real(value) for value in params_and_temperature)
        value = log_z_of_levels(self.statistics, self.log_counts, params, temperature)
        dtypes = [param.dtype for param in params] or [torch.get_default_dtype()]
        return value.to(reduce(torch.promote_types, dtypes))

    def at(self, *params: Tensor | float) -> Callable[..., Tensor]:
        """The function of the temperature for an energy that is built from params, and takes none:
        ``EnergyDistribution(Ising.lattice(shape, j), log_normalizer=listed.at(j))``."""
        return at_params(self, params)


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
        TypeError: no energy, or one that takes another number of params.
        ValueError: more configurations than 2^22, or not finitely many states; an energy that is
            not linear in its params, NaN or minus infinity somewhere, or infinite everywhere, or
            whose params decide where it is infinite.
    """
    check_whole("num_params", num_params, 0)
    listed = as_energy(energy, event_shape=event_shape, support=support)
    check_takes(energy, num_params)
    count = count_configurations(listed)
    if count > MAX_CONFIGURATIONS:
        raise ValueError(
            f"expected at most 2^22 configurations to list, got {count:.4g}. Use "
            "log_normalizer_surface, which estimates log Z, or MCMC(Exchange(model))."
        )
    zero = torch.zeros(num_params, dtype=torch.float64)
    linear = LinearEnergy(listed, zero, zero + 1)
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    elsewhere = torch.randn(
        num_params, generator=generator, dtype=torch.float64, device=generator.device
    )
    with torch.no_grad():
        statistics = zero.new_zeros(0, 1 + num_params)
        counts = zero.new_zeros(0)
        for first in range(0, count, _CHUNK):
            number = torch.arange(first, min(first + _CHUNK, count))
            rows = _statistics(linear, configurations(listed, number), elsewhere)
            if not len(rows):
                continue
            both = torch.cat([statistics, rows])
            ones = counts.new_ones(len(rows))
            statistics, which = levels_among(both)
            total = counts.new_zeros(len(statistics))
            counts = total.index_add_(0, which, torch.cat([counts, ones]))
        if not len(statistics):
            raise ValueError("expected some configurations of finite energy, got none.")
        return ListedLogNormalizer(statistics, counts.log())


def _statistics(linear: LinearEnergy, x: Tensor, elsewhere: Tensor) -> Tensor:
    """E_0 and the s_k of those configurations that are not ruled out [n, 1 + num_params].

    :param elsewhere: params at which the energy is looked at too.
    :raises ValueError: it is not linear in its params; it is NaN or minus infinity; params decide
        what is ruled out.
    """
    ruled_out = linear.at(x, linear.low) == torch.inf
    if not torch.equal(ruled_out, linear.at(x, elsewhere) == torch.inf):
        raise ValueError(
            "expected an energy that rules the same configurations out at all params, got one that "
            "does not. Use MCMC(Exchange(model))."
        )
    x = x[~ruled_out]
    rows = linear.statistics(x)
    wrong = ~rows.isfinite().all(1)
    if bool(wrong.any()):
        raise ValueError(
            "expected energies that are finite, or infinite where a configuration is ruled out, "
            f"got {float(linear.at(x, linear.low)[wrong][0])} at {x[wrong][0].tolist()}."
        )
    off = ~linear.holds(x, rows, elsewhere)
    if bool(off.any()):
        params = [round(float(p), 3) for p in elsewhere]
        seen = float(linear.at(x[off][:1], elsewhere))
        said = float(rows[off][0, 0] + rows[off][0, 1:] @ elsewhere)
        raise ValueError(
            f"expected an energy that is linear in its {len(params)} params, got one that is not: "
            f"at {params} it is {seen:.6g} for {x[off][0].tolist()}, where its values at 0 and 1 "
            f"say {said:.6g}. Use log_normalizer_surface, or MCMC(Exchange(model))."
        )
    return rows


def _as_real(value: Tensor | float) -> Tensor:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value
    return torch.as_tensor(value).to(torch.get_default_dtype())
