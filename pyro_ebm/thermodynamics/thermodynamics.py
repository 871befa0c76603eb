"""Free energy, energy, entropy and heat capacity of an energy across temperatures, from one run.

Ladders of replicas reach from a base, which is normalised, to the lowest temperature, and exchange
places on the way (parallel tempering). The draws of all rungs together are draws of one mixture,
and from it every temperature between is reweighted, so that a grid of any fineness costs one run.
Of a discrete energy the base are independent sites at infinite temperature, and the rungs are
temperatures; of a continuous one it is a density fitted at the highest temperature of the grid.

Source: Shirts, Chodera (2008), Statistically optimal analysis of samples from multiple equilibrium
states; Okabe, Kawata, Okamoto, Mikami (2001); Syed, Bouchard-Côté, Deligiannidis, Doucet (2022).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_ebm.annealing import LogZ, ParallelTempering
from pyro_ebm.annealing.freeze import as_target
from pyro_ebm.annealing.path import Base
from pyro_ebm.annealing.progress import Stages
from pyro_ebm.annealing.start import Wanted, start
from pyro_ebm.target import Target, worthwhile_threads
from pyro_ebm.target.discrete import DiscreteProgram
from pyro_ebm.target.simple_programs import EnergyProgram

from .dataset import dataset
from .estimates import Estimates, LadderDraws, Rungs, estimate
from .observables import (
    check_observables,
    is_of_spins,
    measured,
    spin_moments,
    spin_quantities,
)
from .tempered import check_temperatures, tempered

if TYPE_CHECKING:
    import xarray as xr

# Fewer effective draws than these are not enough to reweight to a temperature.
_FEWEST_DRAWS = 100.0


def thermodynamics(
    energy_or_model: Any,
    temperatures: Any,
    *args: Any,
    observables: Any = None,
    base: Any = "auto",
    num_ladders: int = 32,
    num_temperatures: int | None = None,
    num_sweeps: int = 512,
    disable_progbar: bool = False,
    **kwargs: Any,
) -> xr.Dataset:
    """log Z, free energy, internal energy, entropy and heat capacity at every temperature.

    With p(x) = exp(-E(x)/T)/Z and k_B = 1: F = -T log Z, U = <E>, S = (U - F)/T and C = dU/dT =
    (<E^2> - <E>^2)/T^2, each with a standard error made of independent ladders. Of spins there are
    also the magnetisation <|m|>, with m the mean of the spins, the susceptibility
    N (<m^2> - <|m|>^2)/T and Binder's cumulant 1 - <m^4>/(3 <m^2>^2).

    Of a continuous energy log Z is the integral over positions alone; momenta would add theirs. Of
    a Pyro model E is minus the log of the joint density, all of which is tempered.

    Args:
        energy_or_model: an Energy, an EnergyDistribution (whose temperature is not looked at) or a
            Pyro model.
        temperatures: T, a tensor [n] or a sequence of positive numbers, in units of the energy.
        args: arguments of the model.
        observables: {name: function}, whose means are wanted: from configurations [N, *event] to
            [N], of a model from a dictionary of the values [N, *shape] of its latent sites.
        base: as for :class:`~pyro_ebm.ParallelTempering`.
        num_ladders: independent ladders of replicas.
        num_temperatures: rungs between the base and the lowest temperature; unless given as many
            as a pilot finds due.
        num_sweeps: how often the last round moves every replica and lets neighbours change places.
        disable_progbar: no progress bar; there is none anyway when the output is no terminal.
        kwargs: keyword arguments of the model.

    Returns:
        An xarray.Dataset over ``temperature`` with ``log_z``, ``free_energy``,
        ``internal_energy``, ``entropy``, ``heat_capacity`` and the observables, each with
        ``_error``, and ``ess``, how many equally weighted draws each temperature has. The
        attributes say the units, whether all can be relied on (``reliable``) and ``why``.

    Raises:
        TypeError: neither an energy nor a model; temperatures or observables of another type.
        ValueError: a temperature that is not positive and finite; an energy that cannot be
            normalised at one of them; arguments out of range.

    Warns:
        UserWarning: the result is not reliable.
    """
    wanted_temperatures = check_temperatures(temperatures)
    functions = check_observables(observables)
    at = tempered(energy_or_model)
    hottest, coldest = float(wanted_temperatures.max()), float(wanted_temperatures.min())
    method = ParallelTempering(
        at(coldest),
        base=base,
        num_ladders=num_ladders,
        num_temperatures=num_temperatures,
        num_sweeps=num_sweeps,
    )
    wanted = method.wanted
    seed = int(torch.randint(2**62, ()))
    with poutine.block(), Stages(disable=disable_progbar) as stages:
        cold = as_target(at(coldest), args, kwargs)
        with worthwhile_threads(cold, wanted.num_particles):
            if isinstance(base, str) and cold.num_states is None:
                hot = as_target(at(hottest), args, kwargs)
                wanted = wanted._replace(
                    base=_base_of(hot, wanted, args, kwargs, stages, seed=seed)
                )
            begun = start(cold, wanted, args, kwargs, stages, seed=seed)
            if isinstance(begun, LogZ):
                raise ValueError(f"There is no log Z at T = {coldest:.6g}. {begun.why}")
            path_base = begun.pilot.mover.path.base
            record = _Record(cold, path_base, coldest, functions)
            rungs, seen = method.temper(begun, stages, record.watch)
            log_z = method.judge(begun, rungs, seen, stages)
        assert seen.watched is not None
        found = _estimated(record, seen.watched, rungs.betas, log_z, wanted_temperatures)
    problems = _problems(found, wanted_temperatures)
    reliable = log_z.reliable and not problems
    why = " ".join([*problems, log_z.why] if log_z.reliable else [log_z.why, *problems])
    if not reliable:
        warnings.warn(f"These are not reliable: {why}", stacklevel=2)
    return dataset(
        wanted_temperatures,
        found,
        reliable=reliable,
        why=why,
        details={
            "base": path_base.description,
            "num_ladders": num_ladders,
            "num_sweeps": len(seen.slope),
            "num_rungs": len(rungs.betas),
            "seed": seed,
        },
    )


class _Record:
    """What is kept of every replica: numbers by name, in a fixed order."""

    def __init__(
        self,
        target: Target,
        base: Base,
        temperature: float,
        functions: Mapping[str, Callable[..., Tensor]],
    ) -> None:
        self._target, self._base, self._temperature = target, base, temperature
        self._functions = functions
        self._spins = is_of_spins(target)
        self._bare = isinstance(target.described, EnergyProgram | DiscreteProgram)
        self.names: tuple[str, ...] = ()

    def watch(self, positions: Tensor) -> Tensor:
        """Numbers [k, t, ladders] of positions [dim, t, ladders]: log of the measure over the base,
        the energy, and the moments."""
        dim, t, ladders = positions.shape
        flat = positions.reshape(dim, t * ladders)
        terms = self._target.evaluate(flat.T)
        log_base, _ = self._base.log_density_and_gradient(flat)
        rows = {
            "log_measure": terms.log_det.double() - log_base.double(),
            "energy": -self._temperature * terms.log_joint.double(),
        }
        if self._spins:
            rows |= spin_moments(terms.latents["x"])
        rows |= measured(self._functions, terms.latents, bare=self._bare)
        self.names = tuple(rows)
        return torch.stack(list(rows.values())).reshape(len(rows), t, ladders)

    def draws(self, watched: Tensor) -> LadderDraws:
        """What was watched in all sweeps [sweeps, k, t, ladders]."""
        ladders = watched.shape[-1]
        columns = watched.transpose(0, 1).reshape(watched.shape[1], -1, ladders)
        rows = dict(zip(self.names, columns, strict=True))
        log_measure, energy = rows.pop("log_measure"), rows.pop("energy")
        slope = log_measure - energy / self._temperature
        slope = torch.where(slope.isnan(), -torch.inf, slope)
        return LadderDraws(slope, energy, log_measure, rows)

    @property
    def derived(self) -> dict[str, Any]:
        """What follows from the moments."""
        return spin_quantities(self._target.dim) if self._spins else {}


def _base_of(
    hot: Target, wanted: Wanted, args: tuple, kwargs: dict[str, Any], stages: Stages, *, seed: int
) -> Base:
    """A base for the highest temperature.

    :raises ValueError: there is none, as the density has no integral.
    """
    begun = start(hot, wanted, args, kwargs, stages, seed=seed)
    if isinstance(begun, LogZ):
        raise ValueError(f"There is no log Z at the highest temperature. {begun.why}")
    return begun.pilot.mover.path.base


def _estimated(
    record: _Record, watched: Tensor, betas: Tensor, log_z: LogZ, temperatures: Tensor
) -> Estimates:
    # The stepping stones' log Z of the whole path is where the search for all of them begins.
    first = betas.double() * (log_z.log_z if abs(log_z.log_z) < float("inf") else 0.0)
    rungs = Rungs(betas.double(), first)
    return estimate(record.draws(watched), rungs, temperatures, derived=record.derived)


def _problems(found: Estimates, temperatures: Tensor) -> list[str]:
    few = ~(found.ess >= _FEWEST_DRAWS)
    if not bool(few.any()):
        return []
    worst = float(temperatures[few][found.ess[few].argmin()])
    return [
        f"At {int(few.sum())} of {len(temperatures)} temperatures fewer than "
        f"{_FEWEST_DRAWS:.0f} effective draws are left, the fewest at T = {worst:.6g}; take more "
        "sweeps, or fewer temperatures at a time."
    ]
