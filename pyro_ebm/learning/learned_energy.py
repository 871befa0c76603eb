"""An energy that is learned inside a Pyro model: a site whose gradient is that of the likelihood.

A plain EnergyDistribution refuses parameters that SVI moves, as log Z(theta) is missing. Here its
gradient is known from draws of the present p, the negative phase:

    d log p(x) / d theta = -dE(x)/d theta + E_p[dE/d theta],      d log p(x) / dx = -dE(x)/dx.

Each row of data counts it once, under plates, subsampling and scales alike. The value of `log_prob`
is log p(x) where the objective knows log Z, and of lasting chains alone it is

    mean E(chains) - E(x)  =  log p(x) + the entropy of p,

so that an ELBO of it is off by a number that says nothing of x or of a guide.

Source: Tieleman (2008), Training restricted Boltzmann machines using approximations to the
likelihood gradient; Carbone, Hua, Coste, Vanden-Eijnden (2023), Efficient training of energy-based
models using Jarzynski equality.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.infer.inspect import TrackProvenance
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor
from torch.distributions import constraints

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.draws import only_a_start_is_wanted
from pyro_ebm.energies import as_energy, values_visible
from pyro_ebm.normalizers import fixed_or_recorded, walk

from .negatives import Negatives, parameters_of
from .objective import energy_for
from .rows import as_rows

# Of a draw that starts at a lasting chain, which is nearly one already.
_TRANSITIONS = 20


class LearnedEnergy(TorchDistribution):
    """exp(-E(x)) / Z with parameters that SVI, or any optimiser, is learning.

    Make it once, outside of the model: its chains last from step to step, and move when `log_prob`
    is called and the parameters are others than when they last moved. Register the energy in the
    model, by `pyro.module("energy", energy)` or as a part of a PyroModule::

        x_of = LearnedEnergy(energy, start=data)

        def model(data):
            pyro.module("energy", energy)
            with pyro.plate("rows", len(data)):
                pyro.sample("x", x_of, obs=data)

    After learning, `EnergyDistribution(energy)` is the site for MCMC and for AIS.

    :param energy: an Energy or an nn.Module, whose own parameters are learned in place.
    :param objective: :class:`.PersistentContrastiveDivergence` (256 chains unless it says how
        many), :class:`.AnnealedLikelihood`, which knows the value of log Z too, or
        :class:`.ExactLikelihood`; "auto" is the exact one where the energy knows log Z, and else
        lasting chains.
    :param event_shape: the shape of one configuration, for a net; that of the rows of ``start``, or
        the energy's own, unless given.
    :param support: where the density lives; the energy's own, or all real numbers, unless given.
    :param start: rows [n, *event], data for instance: chains start there, and step in units of
        their spread. Unless given they start at draws of the energy before learning, of the base
        that it is tilted from, or at the ends of short chains.
    :param validate_args: whether values are checked; None means Pyro's setting.
    :raises TypeError: no energy, or an objective that needs data.
    :raises ValueError: an energy without parameters to learn; rows that are no configurations; made
        inside of a running model.

    :ivar negatives: the :class:`.Negatives`, with their state.
    """

    has_rsample = False
    has_enumerate_support = False

    def __init__(
        self,
        energy: object,
        objective: Any = "auto",
        *,
        event_shape: Sequence[int] | None = None,
        support: object = None,
        start: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if _PYRO_STACK:
            raise ValueError(
                "expected a LearnedEnergy that is made once, outside of the model, got one that is "
                "made while the model runs: its chains would begin anew at every step."
            )
        rows = None if start is None else as_rows(start, "start")
        if event_shape is None and support is None and rows is not None:
            self.energy = energy_for(energy, rows)
        else:
            shape = tuple(rows.shape[1:]) if event_shape is None and rows is not None else None
            given = event_shape if shape is None else shape
            self.energy = as_energy(energy, event_shape=given, support=support)
        self.negatives = Negatives(self.energy, objective, rows)
        self._unnormalized = EnergyDistribution(self.energy, validate_args=validate_args)
        super().__init__(torch.Size(), self.energy.event_shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return (
            f"LearnedEnergy({type(self.energy).__name__}, {self.negatives.objective}, "
            f"batch_shape={tuple(self.batch_shape)})"
        )

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """None: what the distribution is made of is checked when it is made."""
        return {}

    @property
    def support(self) -> constraints.Constraint:
        """Where the density lives, over whole events."""
        return self.energy.support

    def log_z(self) -> tuple[float, float] | None:
        """log Z of the energy as it is with a standard error, where the objective knows it."""
        return self.negatives.log_z()

    def log_prob(self, value: Tensor) -> Float[Tensor, "*batch"]:
        """-E(value) - log Z, with the gradient of the log likelihood.

        Its value is the log likelihood where the objective knows log Z; else the entropy of p is
        added to it.

        :param value: configurations [*batch, *event].
        :raises ValueError: the value lies outside of the support; the energy depends on something
            learnable, or latent, that is no parameter of its own; SVI is learning and the energy is
            not registered in the model; a loss is recorded, whose chains could not move.
        """
        visible = values_visible()
        if self._validate_args and visible:
            self._validate_sample(value)
        if torch._C._is_tracing() and not self.negatives.exact:
            raise ValueError(
                "expected a loss that is evaluated at every step, got one that torch.jit.trace "
                "records: the chains of its first step would be in it for ever. Use Trace_ELBO "
                "instead of JitTrace_ELBO, or ExactLikelihood() where log Z can be had."
            )
        position = value.view_as(value)
        log_density = self._unnormalized.unnormalized_log_prob(position)
        values_alone = visible and not _following_names()
        if values_alone and torch.is_grad_enabled():
            self._refuse(log_density, position)
        if self.negatives.exact:
            log_z = fixed_or_recorded(self.negatives.log_normalizer)
            assert log_z is not None
            return log_density - log_z.to(log_density.dtype)
        if not values_alone:
            # While values are recorded or followed nothing moves: log Z is what it was.
            return log_density - self.negatives.constant
        with poutine.block():
            self.negatives.follow()
        return log_density - self.negatives.log_normalizer().to(log_density.dtype)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Draws without gradient: exact where the energy can, else of chains that start at the
        lasting ones and go on for 20 transitions.

        :param sample_shape: how many draws, as a shape.
        :returns: a tensor [*sample, *batch, *event].
        """
        shape = torch.Size(sample_shape)
        if only_a_start_is_wanted():
            return self._unnormalized.sample(shape)
        whole = shape + self.batch_shape
        with poutine.block():
            self.negatives.follow()
            drawn = self.negatives.draws(whole.numel(), _TRANSITIONS)
        if drawn is None:
            return self._unnormalized.sample(shape)
        return drawn.reshape(whole + self.event_shape)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> LearnedEnergy:
        """The same density over a larger batch, with the same chains."""
        new = copy.copy(self)
        new._unnormalized = self._unnormalized.expand(batch_shape)
        new._batch_shape = new._unnormalized.batch_shape
        return new

    def _refuse(self, log_density: Tensor, position: Tensor) -> None:
        own = parameters_of(self.energy)
        known = {id(parameter) for parameter in own}
        strange = [leaf for leaf in walk((log_density,), position).leaves if id(leaf) not in known]
        if strange:
            raise ValueError(
                "expected an energy that depends on its own parameters alone, got one that depends "
                f"on tensors of shape {[tuple(leaf.shape) for leaf in strange]} beside: chains, "
                "which last, would not follow them. Make them parameters of the energy, an "
                "nn.Module; a latent parent of an energy needs a log_normalizer "
                "(EnergyDistribution) or a doubly-intractable sampler."
            )
        for messenger in _PYRO_STACK:
            if isinstance(messenger, TraceMessenger) and messenger.param_only:
                learned, store = _captured(messenger), pyro.get_param_store()
                if any(id(p) not in learned and store.param_name(p) is None for p in own):
                    raise ValueError(
                        "expected an energy whose parameters are registered in the model, got "
                        f"{type(self.energy).__name__}, of which SVI would not learn all. Write "
                        'pyro.module("energy", energy) in the model; freeze what is not to be '
                        "learned by requires_grad_(False)."
                    )


def _captured(messenger: TraceMessenger) -> set[int]:
    """The tensors that SVI's step has seen so far, and will move."""
    sites = messenger.trace.nodes.values()
    values = [site.get("value") for site in sites if site.get("type") == "param"]
    return {id(getattr(value, "unconstrained", lambda v=value: v)()) for value in values}


def _following_names() -> bool:
    return any(isinstance(messenger, TrackProvenance) for messenger in _PYRO_STACK)
