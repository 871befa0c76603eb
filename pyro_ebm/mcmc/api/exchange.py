"""The exchange algorithm as users write it: for models whose likelihood lacks log Z(theta)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.infer.autoguide.initialization import init_to_uniform
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.energies.enumeration import MAX_LISTED
from pyro_ebm.normalizers import intractable_sites, without_normalizers
from pyro_ebm.target import Target
from pyro_ebm.target.auxiliary import AuxiliarySite, auxiliary_sites
from pyro_ebm.target.auxiliary_reals import AuxiliaryReals

from ..auxiliary import StateDraws
from ..auxiliary_reals import RealDraws
from ..exchange import exchange
from ..exchange_adaptation import ExchangeWarmup, proposals
from ..kernel import Kernel, Settings
from ..metric import inverse_mass_matrix
from .arguments import check_share, check_whole
from .auxiliary_shift import AnyDraws, shifts
from .record import RunRecord

# A listed event takes a number for each configuration; of more than these chains do it faster.
_MOST_NUMBERS = 2**13


class Exchange:
    """MCMC for models that observe an energy whose log Z depends on latent sites, and is unknown.

    The energy stands in the model as ``pyro.sample("x", EnergyDistribution(energy,
    params=(theta,)), obs=data)``, or is built there from latent sites. Every transition proposes
    new values of all latent sites together, draws auxiliary data from the energy at these, and
    accepts by a ratio in which log Z cancels. What a run calls ``lp`` lacks log Z, so that there is
    no evidence to be had from it. Where an event of discrete data has at most 2^12 configurations,
    and all events together at most 2^13, the draws are exact, and so is the posterior; else they
    are the ends of chains from the observed data, Gibbs chains of discrete data and Hamiltonian
    ones of continuous data, and the posterior is as right as these have forgotten where they began.
    The run measures that: the attributes ``auxiliary_shift`` and ``auxiliary_shift_error`` say by
    how many posterior standard deviations the worst mean is off, as judged by chains four times as
    long, and ``auxiliary_start_shift`` and ``auxiliary_start_error`` the same of chains that begin
    at ``auxiliary_start``, elsewhere than at the data. So does :meth:`.MCMC.diagnose`.

    :param model: a Pyro model with one or more such sites; its latent sites are continuous, or
        discrete and summed out.
    :param sweeps: of a chain, each over all units of discrete data; of continuous data each is a
        Hamiltonian transition of 8 leapfrog steps for every event.
    :param bridges: densities between the proposed and the present parameters, at each of which the
        auxiliary data make a sweep: more accepted proposals for more work each.
    :param exact: whether draws come from a list of all configurations of an event, 2^12 at most;
        "auto" where that is faster too, which more than 2^13 configurations of all events
        together are not.
    :param target_accept_prob: the acceptance rate that the length of proposals is adapted to.
    :param transforms: per site a map from its support to unconstrained space.
    :param init_strategy: one of pyro.infer.autoguide's ``init_to_...`` functions.
    :raises TypeError: no Pyro model.
    :raises ValueError: arguments out of range. And in ``run``: no such site; one that is latent,
        scaled or masked; one whose log Z depends on a discrete site, or whose support depends on a
        latent one; data on the border of their support; a list that is too long, or of continuous
        data.

    Source: Murray, Ghahramani, MacKay (2006), MCMC for doubly-intractable distributions; Liang
    (2010), A double Metropolis-Hastings sampler for spatial models with intractable normalizing
    constants.
    """

    # What MCMC asks of any kernel, and what this one has none of.
    potential_fn: Callable | None = None
    max_tree_depth = 0
    recorded = False
    lacks_log_z = True
    jit_compile = False

    def __init__(
        self,
        model: Callable,
        *,
        sweeps: int = 20,
        bridges: int = 4,
        exact: bool | str = "auto",
        target_accept_prob: float = 0.3,
        transforms: Mapping[str, Any] | None = None,
        init_strategy: Callable = init_to_uniform,
    ) -> None:
        bare = isinstance(model, Target | Energy) or hasattr(model, "log_prob")
        if bare or not callable(model):
            raise TypeError(
                "Exchange expected a Pyro model, a function that calls pyro.sample, got "
                f"{type(model).__name__}."
            )
        check_whole("sweeps", sweeps, 1)
        check_whole("bridges", bridges, 0)
        check_share("target_accept_prob", target_accept_prob)
        if not (isinstance(exact, bool) or exact == "auto"):
            raise ValueError(f'exact must be True, False or "auto", got {exact!r}.')
        self.model = model
        self.sweeps, self.bridges, self.exact = sweeps, bridges, exact
        self.target_accept_prob = target_accept_prob
        self.transforms = transforms
        self.init_strategy = init_strategy

    def target(
        self, args: tuple, kwargs: Mapping[str, Any], initial_params: Mapping[str, Tensor] | None
    ) -> Target:
        """Freeze the model with log f in place of log p at the sites that lack log Z."""
        found = intractable_sites(self.model, args, kwargs)
        model = without_normalizers(self.model, {site.name for site in found})
        return Target.freeze(model, args, kwargs, transforms=self.transforms)

    def warmup(self, target: Target, num_steps: int) -> ExchangeWarmup:
        """Learns the covariance and the length of the proposals."""
        return ExchangeWarmup(num_steps, self.target_accept_prob)

    def kernel_of(self, target: Target) -> Kernel:
        """The exchange algorithm with auxiliary data at every site that lacks log Z."""
        return self._kernel_over(self._draws(target))

    def kernel_in_batches(self, target: Target, size: int) -> Kernel:
        """The same, with auxiliary data of so many chains at a time."""
        return self._kernel_over([each._replace(batch=size) for each in self._draws(target)])

    def native_kernel(self, target: Target) -> Kernel | None:
        """There is none in C."""
        return None

    def _kernel_over(self, draws: list[AnyDraws]) -> Kernel:
        def log_ratio(new: Tensor, old: Tensor, uniform: Tensor) -> Tensor:
            parts = uniform.split([each.uniforms for each in draws])
            ratios = [
                each.log_ratio(new, old, part) for each, part in zip(draws, parts, strict=True)
            ]
            return torch.stack(ratios).sum(0)

        return exchange(log_ratio, uniforms=sum(each.uniforms for each in draws))

    def check_num_chains(self, num_chains: int) -> None:
        """Any number of chains will do."""

    def learned(self, settings: Settings) -> dict[str, Any]:
        """The length of the proposals."""
        return {"proposal_length": float(settings.step_size.median())}

    def adopted(self, settings: Settings) -> Settings:
        """Proposals of the covariance that another run has learned, of the length that suits it."""
        if int(settings.max_tree_depth) == 0:
            return settings
        covariance = inverse_mass_matrix(settings.metric)
        if covariance.dim() == 1:
            covariance = covariance.diag()
        return proposals(torch.linalg.cholesky(covariance), settings.step_size)

    def examined(self, record: RunRecord, generator: torch.Generator) -> dict[str, Any]:
        """How right the auxiliary draws were, for the attributes of a run."""
        draws = self._draws(record.target)
        if all(each.listed for each in draws):
            return {"auxiliary_exact": True}
        known = {
            "auxiliary_exact": False,
            "auxiliary_sweeps": self.sweeps,
            "auxiliary_bridges": self.bridges,
        }
        if not record.num_draws or not record.keeps_all:
            nothing = {"auxiliary_shift": math.nan, "auxiliary_shift_error": math.nan}
            return {**known, **nothing, "auxiliary_shift_site": "any site"}
        return {**known, **shifts(record, [e for e in draws if not e.listed], generator)}

    def _draws(self, target: Target) -> list[AnyDraws]:
        return [self._draws_of(site) for site in auxiliary_sites(target)]

    def _draws_of(self, site: AuxiliarySite | AuxiliaryReals) -> AnyDraws:
        if isinstance(site, AuxiliaryReals):
            if self.exact is True:
                raise ValueError(
                    f"exact=True lists configurations, and the data at {site.name!r} are "
                    "continuous. Leave it out, and raise sweeps."
                )
            return RealDraws(site, self.sweeps, self.bridges)
        short = site.num_configurations <= MAX_LISTED
        if self.exact is True and not short:
            raise ValueError(
                f"exact=True lists at most {MAX_LISTED} configurations, and the data at "
                f"{site.name!r} have {site.num_configurations:.3g}. Leave it out, and raise sweeps."
            )
        listed = short and self.exact is not False
        if self.exact == "auto":
            listed = short and site.num_configurations * site.rows <= _MOST_NUMBERS
        return StateDraws(site, self.sweeps, self.bridges, listed)
