"""An energy as a Pyro distribution: density exp(-E(x)/T) / Z over the energy's support.

Pyro treats it like any other continuous distribution: it can be a latent or an observed site, sit
in plates, be expanded, masked and reinterpreted. What it usually lacks is log Z. As long as nothing
that inference moves enters the energy, the temperature or the support, log Z is a constant and may
be missing; where it is not, `log_prob` refuses, and says what can be done.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.distributions import constraints
from torch.nn.utils.stateless import _reparametrize_module

from pyro_ebm.energies import (
    as_energy,
    at_rest,
    check_values,
    evaluate,
    first_of,
    joint_sizes,
    no_gradient_path,
    undifferentiated,
    values_visible,
)
from pyro_ebm.normalizers import (
    CollectProvenance,
    as_log_normalizer,
    as_params,
    broadcasts_to,
    checked_temperature,
    first_enumerated_dim,
    fixed_or_recorded,
    guarded,
    joint_batch_shape,
    joint_shape,
    log_normalizer_at,
    missing_normalizer,
    plain,
    refuse_enumerated_parents,
    refuse_moving_parents,
    shape_of,
    surroundings,
    tensors_in,
    walk,
)
from pyro_ebm.recording import is_recording_here
from pyro_ebm.target.discrete import is_discrete

from .draws import (
    checked_reference,
    draw,
    draw_states,
    only_a_start_is_wanted,
    propose_starts,
    warn_approximate,
)
from .draws_by_params import AtParams


class EnergyDistribution(TorchDistribution):
    """The distribution with density exp(-E(x, *params)/T) / Z over the support of the energy.

    Args:
        energy: an `Energy`, an nn.Module (called on batches [N, *event]) or a function of one
            configuration and one element of each param.
        event_shape: the shape of one configuration; None means the energy's own, else ().
        support: where the density lives; None means the energy's own, else real. It is widened
            to the dimensions of the event.
        params: what else the energy takes; they broadcast, and their shape is the batch shape.
        batch_shape: more batch dimensions.
        temperature: T, positive; a tensor broadcasts into the batch shape.
        log_normalizer: log Z at this temperature, as a number, a tensor that broadcasts to the
            batch shape, or an object with `log_z`; or a function f(*params, temperature). None
            means the energy's own where it knows one and takes no params.
        reference: where `sample` starts, a distribution or a tensor; it never changes the density.
        validate_args: whether values are checked; None means Pyro's setting.

    Raises:
        TypeError: not an energy, a constraint, a temperature, a normaliser or a reference.
        ValueError: shapes that do not fit together; a temperature that is not positive; a
            normaliser that is not finite.
    """

    has_rsample = False
    has_enumerate_support = False

    def __init__(
        self,
        energy: object,
        event_shape: Sequence[int] | None = None,
        *,
        support: object = None,
        params: object = (),
        batch_shape: Sequence[int] = (),
        temperature: object = 1.0,
        log_normalizer: object = None,
        reference: object = None,
        validate_args: bool | None = None,
    ) -> None:
        self.energy = as_energy(energy, event_shape=event_shape, support=support)
        self.params = as_params(params)
        values = self._validate_args if validate_args is None else validate_args
        self.temperature = checked_temperature(temperature, values=values)
        event = self.energy.event_shape
        batch = joint_batch_shape(
            batch_shape=torch.Size(batch_shape),
            params=joint_shape(self.params),
            temperature=shape_of(self.temperature),
            support=joint_shape(tensors_in(self.energy.support), drop=len(event)),
        )
        self._log_normalizer = as_log_normalizer(log_normalizer, batch)
        self.reference = checked_reference(reference, batch, event)
        self._left_out = False
        self._enumerated_from = first_enumerated_dim()
        self._surroundings = surroundings()
        super().__init__(batch, event, validate_args=validate_args)

    def __repr__(self) -> str:
        return (
            f"EnergyDistribution({type(self.energy).__name__}, event_shape="
            f"{tuple(self.event_shape)}, batch_shape={tuple(self.batch_shape)}, "
            f"support={self.support})"
        )

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """None: what the distribution is made of is checked when it is made."""
        return {}

    @property
    def support(self) -> constraints.Constraint:
        """Where the density lives, over whole events."""
        return self.energy.support

    @property
    def normalized(self) -> bool:
        """Whether log Z is known, so that `log_prob` integrates to one."""
        return self._log_z() is not None

    @property
    def normalizer_is_function(self) -> bool:
        """Whether log Z is known as a function of all that the density depends on."""
        return self._follows(self._log_z())

    def without_normalizer(self) -> EnergyDistribution:
        """The same, whose `log_prob` leaves out log Z and refuses nothing for it: for samplers that
        make up for it in another way."""
        new = copy.copy(self)
        new._left_out = True
        return new

    @property
    def leaves_out_normalizer(self) -> bool:
        """Whether it was made by `without_normalizer`."""
        return self._left_out

    @property
    def mean(self) -> Tensor:
        """The mean, where the energy knows it."""
        return self._moment("mean")

    @property
    def variance(self) -> Tensor:
        """The variance of each coordinate, where the energy knows it."""
        return self._moment("variance")

    def energy_value(self, value: Tensor) -> Float[Tensor, "*batch"]:
        """E(value, *params), of the batch shape of the value and the params."""

        def call(x: Tensor, *params: Tensor | float) -> Tensor:
            return evaluate(self.energy, x, params)

        energy = guarded(call, value, *self.params, around=self._surroundings).value
        split = value.dim() - len(self.event_shape)
        return energy.expand(joint_sizes(shape_of(value)[:split], self.batch_shape))

    def unnormalized_log_prob(self, value: Tensor) -> Float[Tensor, "*batch"]:
        """-E(value, *params)/T, whatever it depends on.

        Args:
            value: configurations [*batch, *event].
        """
        return -self.energy_value(value) / self.temperature

    def log_prob(self, value: Tensor) -> Float[Tensor, "*batch"]:
        """-E(value, *params)/T - log Z; without log Z while none is known.

        Args:
            value: configurations [*batch, *event].

        Raises:
            ValueError: the value lies outside the support; the energy is NaN, has no gradient path
                to the value, or captures a site that it must be handed (of a plate around it, or
                enumerated); log Z is not known as a function, and inference moves something that
                the energy, the temperature or the support depends on. Not visible here, nor under
                stock NUTS: a parent whose gradient path the energy cuts (`th.detach()`,
                `torch.no_grad()`, `float(th)`), or what is computed from an enumerated site and
                then captured (`m = loc[z]`); the package's own MCMC sees both. Nor a discrete
                parent that a guide draws.
        """
        visible = values_visible()
        if self._validate_args and visible:
            self._validate_sample(value)
        position = value.view_as(value)
        log_density = self.unnormalized_log_prob(position)
        if self._validate_args and visible:
            inputs = position.expand(log_density.shape + self.event_shape)
            check_values(-log_density, inputs, repr(type(self.energy).__name__))
        log_z = self._log_z()
        follows = self._follows(log_z)
        if torch.is_grad_enabled() and (visible or torch._C._is_tracing()):
            self._refuse(position, log_density, follows)
        if not visible and not follows and not is_recording_here():
            self._refuse_unseen(value, known=log_z is not None)
        return log_density if log_z is None else log_density - log_z

    def normalizer_inputs(self, value: Tensor) -> tuple[Tensor, ...]:
        """The tensors whose parents log Z has to follow: -E/T, and those of the support."""
        return (self.unnormalized_log_prob(value), *tensors_in(self.support))

    def captured(self, value: Tensor) -> Mapping[str, int]:
        """The sites of a model that the energy reads by closure, if values carry their names; of
        each, how many numbers at most in one tensor."""
        params = tuple(map(plain, self.params))
        with CollectProvenance() as collected:
            evaluate(self.energy, value, params)
        return collected.sizes

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Draws without gradient: exact where the energy can, else by MCMC, with a warning.

        All of `sample_shape` and of the batch is one run of parallel chains, each from its own
        start (`reference`, else transform_to(support) of a uniform(-2, 2)) through
        `draws.NUM_TRANSITIONS` transitions, of which it gives the last state. While Pyro only
        wants shapes or initial values, the start alone is given. Of a discrete energy that takes
        params, draws are exact up to 2^10 configurations, else ends of as many sweeps.

        Args:
            sample_shape: how many draws, as a shape.

        Returns:
            A tensor [*sample, *batch, *event].
        """
        shape = torch.Size(sample_shape)
        with poutine.block(), torch.no_grad():
            if only_a_start_is_wanted():
                return propose_starts(self, shape)
            if self.params and is_discrete(self.support):
                at = AtParams(self.energy, tuple(map(plain, self.params)), plain(self.temperature))
                return at.draws(shape + self.batch_shape)
            generator = torch.Generator(self.like.device)
            generator.manual_seed(int(torch.randint(2**62, ())))
            if not self.params:
                exact = self.energy.exact_sample(
                    shape + self.batch_shape, temperature=self.temperature, generator=generator
                )
                if exact is not None:
                    return exact
            warn_approximate()
            if is_discrete(self.support):
                return self._sample_states(shape, generator)
            return draw(
                self.unnormalized_log_prob,
                lambda: propose_starts(self, shape),
                self.support,
                generator=generator,
            )

    def _sample_states(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Draws of a discrete energy [*sample, *batch, *event], a run for each temperature."""
        every = torch.as_tensor(self.temperature).expand(self.batch_shape).reshape(-1)
        number = shape.numel()
        drawn = [draw_states(self.energy, t, number, generator=generator) for t in every]
        whole = torch.stack(drawn, 1)
        return whole.reshape(shape + self.batch_shape + self.event_shape)

    def expand(self, batch_shape: Sequence[Any], _instance: Any = None) -> EnergyDistribution:
        """The same density over a larger batch."""
        batch = joint_sizes(batch_shape)  # sizes are tensors while torch.jit.trace records
        if not broadcasts_to(self.batch_shape, batch):
            raise ValueError(
                f"expected a batch shape that {tuple(self.batch_shape)} broadcasts to, "
                f"got {tuple(batch)}."
            )
        new = copy.copy(self)
        new._batch_shape = batch
        return new

    def to_event(self, reinterpreted_batch_ndims: int | None = None) -> Any:
        """The distribution with its rightmost batch dimensions made part of the event."""
        count = reinterpreted_batch_ndims
        count = len(self.batch_shape) if count is None else count
        new = self.expand(self.batch_shape)
        if new._enumerated_from is not None:
            new._enumerated_from -= count
        return super(EnergyDistribution, new).to_event(count)

    @property
    def like(self) -> Tensor:
        """An empty tensor of the dtype and device of the configurations."""
        own = [*self.energy.parameters(), *self.energy.buffers()]
        given = [*self.params, self.temperature, *tensors_in(self.support)]
        for candidates in (own, given):
            floating = [
                each.detach()
                for each in candidates
                if isinstance(each, Tensor) and each.is_floating_point()
            ]
            if floating:
                dtype = floating[0].dtype
                for each in floating:
                    dtype = torch.promote_types(dtype, each.dtype)
                return torch.empty((), dtype=dtype, device=floating[0].device)
        return torch.empty(())

    def _log_z(self) -> float | Tensor | None:
        if self._left_out:
            return None
        given = self._log_normalizer
        if given is not None:
            return log_normalizer_at(given, self.params, self.temperature, self.batch_shape)
        if self.params:
            return None
        return fixed_or_recorded(lambda: self.energy.log_normalizer(self.temperature))

    def _follows(self, log_z: float | Tensor | None) -> bool:
        """Whether this log Z is a function: the user's, or the energy's own."""
        if self._left_out:
            return True
        return callable(self._log_normalizer) or (
            self._log_normalizer is None and log_z is not None
        )

    def _moment(self, name: str) -> Tensor:
        moment = None if self.params else getattr(self.energy, name)(self.temperature)
        if moment is None:
            raise NotImplementedError(f"the {name} of this EnergyDistribution is not known.")
        return moment.expand(self.batch_shape + self.event_shape)

    def _refuse(self, position: Tensor, log_density: Tensor, follows: bool) -> None:
        behind = walk((log_density, *tensors_in(self.support)), position)
        if position.requires_grad and not behind.reached:
            raise ValueError(no_gradient_path("x"))
        if not follows:
            refuse_moving_parents(behind.leaves)
            refuse_enumerated_parents(self.batch_shape, self._enumerated_from)

    def _refuse_unseen(self, value: Tensor, *, known: bool) -> None:
        """Refuse what `_refuse` would, and a log Z that hangs on values which cannot be seen, where
        something is mapped, differentiated or traced."""
        if not known and self._known_of_these():
            raise ValueError(missing_normalizer(["values that are mapped over or traced here"]))
        still = first_of(value, len(self.event_shape))
        if still is None or peek_interpreter_stack() is None:
            return
        found = (self.unnormalized_log_prob(still), *tensors_in(self.support))
        plain_ones = [under for each in found if (under := undifferentiated(each)) is not None]
        if len(plain_ones) < len(found):
            raise ValueError(missing_normalizer(["what torch.func differentiates by"]))
        if torch.is_grad_enabled():
            refuse_moving_parents(walk(plain_ones, still.view_as(still)).leaves)

    def _known_of_these(self) -> bool:
        """Whether the energy has a log Z with the first of all mapped values."""
        if self.params or self._log_normalizer is not None or self._left_out:
            return False
        state = {**dict(self.energy.named_parameters()), **dict(self.energy.named_buffers())}
        seen = ((name, first_of(each, each.dim())) for name, each in state.items())
        fixed = {name: each for name, each in seen if each is not None}
        level = self.temperature
        if isinstance(level, Tensor):
            level = first_of(level, level.dim())
        if level is None or len(fixed) < len(state):
            return False
        with at_rest(), _reparametrize_module(self.energy, fixed):
            return self.energy.log_normalizer(level) is not None
