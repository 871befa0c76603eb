"""Target: a model, a distribution or an energy as one flat, unconstrained, batched log density.

Everything that samples, anneals or optimises sees only this: positions z in R^dim, and

    log density(z) = log p(x(z)) + log |dx/dz|,

with x(z) the bijection onto the supports, evaluated for all chains at once together with its
gradient. Authors of other samplers find here exactly the function they need.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.infer.autoguide.initialization import init_to_uniform
from torch import Tensor
from torch.distributions import Transform
from torch.utils import _pytree as pytree

from pyro_ebm.energies import as_energy
from pyro_ebm.normalizers import check_model
from pyro_ebm.shapes import joint_shape

from .arguments import check_arguments
from .conditionals import Conditionals
from .device import on_its_device
from .discrete import DiscreteProgram, is_discrete
from .in_c.density import DensityInC
from .in_c.expressions import NotInC
from .initial import discrete_positions, init_positions
from .layout import Site, origin
from .memory import counted
from .program import ModelProgram, Program, Terms
from .side import NO_SIDE, Side
from .simple_programs import EnergyProgram, PotentialProgram
from .summed_or_sampled import choose
from .transported import TransportedProgram, check_transform
from .vectorize import (
    NUM_PROBES,
    BatchedDensity,
    RecordedDensity,
    composed,
    in_pieces,
    looped,
    probe,
    tensors_of,
    traced,
    value_and_gradient,
    vectorized,
)

# Numbers held at once by evaluations that are not the steps of chains.
_EVALUATE_NUMBERS = 2**24
_PROBE_SEED = 20


class Target:
    """A frozen, flat, batched log density; made by :meth:`from_model` and its siblings.

    Attributes: ``dim`` coordinates of dtype ``dtype`` on ``device``; ``sites`` says which slice of
    a position belongs to which latent site, and of which dtype its values are; ``vectorized``
    whether all chains are evaluated in one call, and ``why_not_vectorized`` the reason when they
    are not. ``why_sampled`` says of discrete sites of a model that are sampled why they are; their
    coordinates, numbers of states, come behind all others. The target of a discrete energy has
    indices of states for its positions, and changes in place of a gradient (:mod:`.discrete`).
    ``numbers_per_run`` are the numbers that one evaluation gives, by which its time is reckoned;
    ``numbers_in_memory`` those that it makes on the way as well (:mod:`.memory`).
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.sites: tuple[Site, ...] = program.sites
        self.why_sampled: dict[str, str] = {}
        self.dim = sum(site.size for site in self.sites)
        if self.dim == 0:
            raise ValueError(
                "The model has no continuous latent site, so there is nothing to sample. A model "
                "whose sites are all observed or enumerated has a log density that can be "
                "evaluated exactly. For draws of discrete sites take MCMC(Gibbs(model)); for all "
                "else write minus their log joint density as an energy on a discrete support: "
                "EnergyDistribution(energy, event_shape, support=...), or exact_enumeration."
            )
        with torch.no_grad():
            terms, made = counted(lambda here: program.run(here, Side()), origin(self.sites))
        log_density = terms.log_density
        self.numbers_per_run = sum(torch.as_tensor(t).numel() for t in pytree.tree_leaves(terms))
        if isinstance(program, DiscreteProgram):
            self.numbers_per_run += self.dim * program.num_states
        self.numbers_in_memory = self.numbers_per_run + made
        # At least that of every site: the log density has met them all.
        self.dtype, self.device = log_density.dtype, log_density.device
        self.why_not_vectorized = self._probe()
        if self.why_not_vectorized is not None:
            warnings.warn(
                "This model is evaluated chain by chain, slower and right, because torch.func.vmap "
                f"cannot take it: {self.why_not_vectorized}",
                stacklevel=3,
            )

    @classmethod
    def from_model(cls, model: Callable, *args: Any, **kwargs: Any) -> Target:
        """Freeze a Pyro model with its arguments.

        :raises ValueError: when the model cannot be sampled rightly: a missing normaliser, a
            subsampled plate, a discrete latent that cannot be enumerated, a support without a
            bijection, sites that depend on values.
        """
        return cls.freeze(model, args, kwargs)

    @classmethod
    def freeze(
        cls,
        model: Callable,
        args: tuple,
        kwargs: Mapping[str, Any],
        *,
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        discrete: Mapping[str, str] | None = None,
    ) -> Target:
        """Freeze a Pyro model, with the options of Pyro's kernels.

        :param transforms: per site a map from its support to unconstrained space, instead of the
            inverse of torch.distributions.biject_to.
        :param max_plate_nesting: at least this many dimensions are kept for plates when discrete
            sites are enumerated.
        :param discrete: None to sum out discrete sites, and refuse what cannot be; a mapping to
            sample these (:mod:`.summed_or_sampled`), by site "sample" or "marginalise" where that
            is not to be decided here.
        """
        check_arguments(model, args, kwargs)
        model = on_its_device(model, args, kwargs)
        captured = check_model(model, args, kwargs, sampling=discrete is not None)
        options: dict[str, Any] = {
            "transforms": transforms,
            "max_plate_nesting": max_plate_nesting,
        }
        if discrete is None:
            return cls(ModelProgram(model, args, kwargs, **options))
        choice = choose(model, args, kwargs, discrete=discrete, captured=captured, **options)
        target = cls(choice.program)
        target.why_sampled = choice.why
        for name in choice.told:
            warnings.warn(
                f"The discrete site {name!r} is sampled, not summed out: {choice.why[name]}. "
                f'discrete={{"{name}": "sample"}} says the same without this warning.',
                stacklevel=3,
            )
        return target

    @classmethod
    def from_distribution(cls, distribution: Any, *, exact_changes: bool | None = None) -> Target:
        """Freeze a distribution (an EnergyDistribution, or any of Pyro's) as the one site ``x``.

        :param exact_changes: of a discrete energy, as in :meth:`from_energy`.
        """
        if not hasattr(distribution, "log_prob"):
            raise TypeError(
                f"Expected a distribution with log_prob and support, got {type(distribution)}."
            )
        energy = getattr(distribution, "energy", None)
        if energy is not None and is_discrete(distribution.support):
            if distribution.params or distribution.batch_shape:
                raise ValueError(
                    "expected one discrete energy, got a batch of them, or one with params. Write "
                    "the params into the energy; for independent copies raise num_chains."
                )
            return cls.from_energy(
                energy, temperature=distribution.temperature, exact_changes=exact_changes
            )
        return cls.from_model(lambda: pyro.sample("x", distribution))

    @classmethod
    def from_energy(
        cls,
        energy: Callable,
        *,
        temperature: float | int | Tensor = 1.0,
        event_shape: tuple[int, ...] | None = None,
        support: Any = None,
        exact_changes: bool | None = None,
    ) -> Target:
        """Freeze the Gibbs density exp(-E(x)/T) of a bare energy; its variable is called ``x``.

        :param exact_changes: of a discrete energy that knows none itself: True for one energy for
            each, False for a first-order guess by its gradient, None for the former where they are
            few.
        """
        temperature = torch.as_tensor(temperature, dtype=torch.get_default_dtype())
        if temperature.dim() > 0 or not bool(temperature > 0):
            raise ValueError(
                f"temperature must be one positive number, got {temperature.tolist()}."
            )
        wrapped = as_energy(energy, event_shape=event_shape, support=support)
        if is_discrete(wrapped.support):
            return cls(DiscreteProgram(wrapped, temperature, exact_changes=exact_changes))
        return cls(EnergyProgram(wrapped, temperature))

    @classmethod
    def from_potential(
        cls,
        potential_fn: Callable[[dict[str, Tensor]], Tensor],
        initial_params: Mapping[str, Tensor],
        *,
        transforms: Mapping[str, Any] | None = None,
    ) -> Target:
        """Freeze Pyro's ``potential_fn``, minus a log density of unconstrained tensors.

        :param initial_params: one unconstrained tensor per name; their shapes are the layout.
        """
        return cls(PotentialProgram(potential_fn, initial_params, transforms or {}))

    def transported(self, transform: Any) -> Target:
        """This density in the coordinates z of a bijection x = T(z) of its positions x.

        The sites are the same, and what :meth:`constrain` gives for z are their values at T(z).

        :param transform: T, a transform of vectors of ``dim`` numbers, with its log determinant.
        :raises TypeError: no transform, or a target with discrete coordinates.
        :raises ValueError: a transform of other vectors, or one whose inverse or log determinant is
            not right; one that torch.func.vmap cannot take.
        """
        if self.num_states is not None or self.sampled:
            raise TypeError(
                "expected a target with continuous coordinates alone, got one with states. A "
                "transform has no gradient to follow there."
            )
        check_transform(transform, dim=self.dim, like=self._like)
        with warnings.catch_warnings():
            # That the model itself goes chain by chain was said when it was frozen.
            warnings.simplefilter("ignore")
            made = Target(TransportedProgram(self.program, transform))
        if self.vectorized and not made.vectorized:
            raise ValueError(
                "expected a transform that torch.func.vmap can take, got one that it cannot "
                f"({made.why_not_vectorized}). Of zuko's flows NICE, RealNVP, MAF, NSF and NCSF go."
            )
        return made

    @property
    def described(self) -> Program:
        """The program that knows the sites: behind transports, the one that is transported."""
        program = self.program
        while isinstance(program, TransportedProgram):
            program = program.inner
        return program

    def to_unconstrained(self, positions: Float[Tensor, "*batch dim"]) -> Tensor:
        """The unconstrained coordinates of the sites at positions: behind a transport T(z)."""
        with torch.no_grad():
            for transform in self._transforms:
                positions = transform(positions)  # pyright: ignore[reportAssignmentType]
        return positions

    def from_unconstrained(self, flat: Float[Tensor, "*batch dim"]) -> Tensor:
        """The positions of unconstrained coordinates of the sites."""
        with torch.no_grad():
            for transform in reversed(self._transforms):
                flat = transform.inv(flat)  # pyright: ignore[reportAssignmentType]
        return flat

    @property
    def _transforms(self) -> list[Transform]:
        found, program = [], self.program
        while isinstance(program, TransportedProgram):
            found.append(program.transform)
            program = program.inner
        return found

    @property
    def vectorized(self) -> bool:
        """Whether all chains are evaluated in one call."""
        return self.why_not_vectorized is None

    @property
    def num_states(self) -> int | None:
        """How many states every site of a discrete target has; None where it is not discrete."""
        return self.program.num_states if isinstance(self.program, DiscreteProgram) else None

    @property
    def exact_changes(self) -> bool:
        """Whether a discrete target gives changes of its log density exactly."""
        return isinstance(self.program, DiscreteProgram) and self.program.exact

    def log_density(
        self, position: Float[Tensor, " dim"], side: Side = NO_SIDE
    ) -> Float[Tensor, ""]:
        """The log density at one position."""
        return self.program.run(position, side).log_density

    def log_density_and_gradient(
        self, positions: Float[Tensor, "dim chains"], side: Side = NO_SIDE
    ) -> tuple[Float[Tensor, " chains"], Float[Tensor, "dim chains"]]:
        """Log density and gradient of every chain, for any number of chains.

        :raises TypeError: the target is discrete.
        """
        if self.num_states is not None:
            raise TypeError(
                "expected a target with continuous coordinates, got a discrete one, whose sites "
                "have no gradient. Sample it by Gibbs, GibbsWithGradients, PathAuxiliary, "
                "DiscreteLangevin or SwendsenWang."
            )
        return self._batched(positions, side)

    def log_density_and_changes(
        self, positions: Float[Tensor, "dim chains"], side: Side = NO_SIDE
    ) -> tuple[Float[Tensor, " chains"], Float[Tensor, "dim states chains"]]:
        """Log density of every chain of a discrete target, and what every single change adds to it.

        :raises TypeError: the target is not discrete.
        """
        if self.num_states is None:
            raise TypeError("expected a discrete target, got one with continuous coordinates.")
        return self._batched(positions, side)

    @cached_property
    def in_c(self) -> DensityInC | None:
        """The log density and its gradient as C code, None where they cannot be written so."""
        if not self.vectorized or self.num_states is not None or self.sampled:
            return None
        position = torch.zeros(self.dim, dtype=self.dtype, device=self.device)
        try:
            return DensityInC(lambda z: value_and_gradient(self.log_density, z, NO_SIDE), position)
        except NotInC:
            return None

    def __getstate__(self) -> dict[str, Any]:
        # Another process writes its own code.
        return {name: value for name, value in self.__dict__.items() if name != "in_c"}

    @cached_property
    def recorded(self) -> RecordedDensity:
        """Log density and gradient, or changes, recorded for those numbers of chains that ask."""
        return RecordedDensity(self._batched)

    def recorder(self, positions: Float[Tensor, "dim chains"]) -> Callable[..., Callable]:
        """What records a function that calls :attr:`recorded` for as many chains as these.

        Where chains are evaluated one by one, it gives the function back.
        """

        def record(function: Callable, *example: Any) -> Callable:
            if not self.vectorized:
                return function
            parts = [self.recorded.at(positions)]
            if self.sampled:
                parts.append(self.conditionals.recorded_for(positions))
            return composed(function, parts, *example)

        return record

    def traced_log_density_and_gradient(
        self, num_chains: int, side: Side = NO_SIDE
    ) -> BatchedDensity:
        """The same function recorded for a fixed number of chains, several times faster a call."""
        if not self.vectorized:
            return self._batched
        example = torch.zeros(self.dim, num_chains, dtype=self.dtype, device=self.device)
        return traced(self._batched, example, side)

    def constrain(self, positions: Float[Tensor, "*batch dim"]) -> dict[str, Tensor]:
        """Latent and deterministic sites of flat positions, each [*batch, *site shape].

        Deterministic sites that depend on a summed-out discrete site have no value at a position
        and are left out. They have one given that site's: :func:`.discrete_draws.draw_discrete`
        draws it, and ``evaluate(positions, Side(values=drawn))`` takes it.
        """
        terms = self.evaluate(positions)
        discrete = set(self.marginalised)
        return terms.latents | {
            name: value
            for name, value in terms.deterministics.items()
            if not discrete or not self.dependencies[name] & discrete
        }

    def unconstrain(self, values: Mapping[str, Tensor]) -> Tensor:
        """The flat position of unconstrained values by site, as ``initial_params`` gives them.

        :param values: per latent site a tensor [*batch, *unconstrained shape]; of a discrete
            target configurations [*batch, *event], of a discrete site its values.
        """
        if isinstance(self.program, DiscreteProgram):
            return self.program.indices(values)
        values = {
            site.name: site.numbers_of(torch.as_tensor(values[site.name]))
            .to(self.dtype)
            .unflatten(-1, (*site.unconstrained_shape, 1))
            .squeeze(-1)
            if site.states is not None and site.name in values
            else values[site.name]
            for site in self.sites
            if site.name in values
        } | {name: value for name, value in values.items() if name not in self._names}
        missing = [site.name for site in self.sites if site.name not in values]
        extra = sorted(set(values) - {site.name for site in self.sites})
        if missing or extra:
            raise ValueError(
                f"Expected one unconstrained tensor for each of {[s.name for s in self.sites]}; "
                f"missing {missing}, unknown {extra}."
            )
        parts = []
        for site in self.sites:
            value = torch.as_tensor(values[site.name], dtype=self.dtype, device=self.device)
            shape = tuple(site.unconstrained_shape)
            if tuple(value.shape[value.dim() - len(shape) :]) != shape:
                raise ValueError(
                    f"The unconstrained value of site '{site.name}' must end in shape {shape}, "
                    f"got {tuple(value.shape)}."
                )
            parts.append(value.reshape(*value.shape[: value.dim() - len(shape)], -1))
        batch = joint_shape(*(part.shape[:-1] for part in parts))
        flat = torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], dim=-1)
        return self.from_unconstrained(flat)

    @property
    def marginalised(self) -> tuple[str, ...]:
        """The discrete sites that are summed out."""
        program = self.described
        return program.marginalised if isinstance(program, ModelProgram) else ()

    @property
    def sampled(self) -> tuple[str, ...]:
        """The discrete sites of a model that are sampled."""
        return self.program.sampled if isinstance(self.program, ModelProgram) else ()

    @property
    def continuous_dim(self) -> int:
        """How many coordinates are continuous: those before the sampled sites'."""
        if self.num_states is not None:
            return 0
        return sum(site.size for site in self.sites if site.states is None)

    @cached_property
    def conditionals(self) -> Conditionals:
        """The distributions of the sampled sites, each given all else."""
        assert isinstance(self.program, ModelProgram)
        return Conditionals(self.program, like=self._like, vectorized=self.vectorized)

    @cached_property
    def dependencies(self) -> dict[str, frozenset[str]]:
        """By latent, discrete and deterministic site the latent and discrete sites it depends on.

        A model that is evaluated chain by chain may hide what it reads, and a transport mixes all
        coordinates: there everything depends on everything.
        """
        own = {name: frozenset({name}) for name in (*self._names, *self.marginalised)}
        program, mixed = self.described, isinstance(self.program, TransportedProgram)
        if not isinstance(program, ModelProgram):
            return dict.fromkeys(own, frozenset(own)) if mixed else own
        named = [name for name in program.first_trace.nodes if name in program.determined]
        named += self._names
        try:
            if self.vectorized and not mixed:
                return own | program.dependencies(named, lambda node: node["value"])
        except Exception:  # vmap raises whatever the model's operations raise
            pass
        return own | dict.fromkeys(named, frozenset(own))

    @property
    def _names(self) -> list[str]:
        return [site.name for site in self.sites]

    def coordinates_of(self, names: Iterable[str]) -> Tensor:
        """The coordinates that the given sites depend on, ascending.

        All of them for a discrete site that is summed out, and for what depends on one: it is drawn
        back given everything else.

        :raises ValueError: when a name is no latent, discrete or deterministic site.
        """
        names = list(names)
        unknown = sorted(set(names) - set(self.dependencies))
        if unknown:
            raise ValueError(
                f"{unknown} are no sites of this model that could be kept; those are "
                f"{sorted(self.dependencies)}."
            )
        behind = frozenset[str]().union(*(self.dependencies[name] for name in names))
        needed = torch.zeros(self.dim, dtype=torch.bool)
        for site in self.sites:
            needed[site.slice] = site.name in behind or bool(behind & set(self.marginalised))
        return needed.nonzero()[:, 0].to(self.device)

    def complete(self, stored: Tensor, coordinates: Tensor | None) -> Tensor:
        """Flat positions [..., dim] from their stored coordinates, zeros elsewhere."""
        if coordinates is None:
            return stored
        positions = stored.new_zeros(*stored.shape[:-1], self.dim)
        positions[..., coordinates] = stored
        return positions

    def evaluate(self, positions: Tensor, side: Side = NO_SIDE) -> Terms:
        """All terms of the log density at flat positions [*batch, dim], batch axes leading.

        :param side: per-position side values, [*batch, ...].
        """
        batch = positions.shape[:-1]
        flat = positions.reshape(-1, self.dim)
        leaves, rebuild = tensors_of(side)
        leaves = [leaf.reshape(flat.shape[:1] + leaf.shape[len(batch) :]) for leaf in leaves]

        def single(position: Tensor, *parts: Tensor) -> Terms:
            terms = self.program.run(position, rebuild(parts))
            return pytree.tree_map(torch.as_tensor, terms)

        with torch.no_grad():
            if isinstance(self.program, DiscreteProgram):
                terms = self.program.terms(flat, rebuild(leaves))
            elif self.vectorized:
                chunk = max(1, _EVALUATE_NUMBERS // self.numbers_in_memory)
                terms = torch.func.vmap(single, chunk_size=chunk)(flat, *leaves)
            else:
                runs = [single(*row) for row in zip(flat, *leaves, strict=True)]
                terms = pytree.tree_map(lambda *rows: torch.stack(rows), *runs)
        return pytree.tree_map(lambda value: value.reshape(batch + value.shape[1:]), terms)

    def initial_positions(
        self,
        num_points: int,
        *,
        strategy: Callable = init_to_uniform,
        generator: torch.Generator | None = None,
        side: Side = NO_SIDE,
    ) -> Float[Tensor, "dim points"]:
        """Starting positions with finite log density and gradient, by one of Pyro's strategies.

        Those of a discrete target are random states, whatever the strategy.
        """
        generator = generator or _generator(self.device)
        if isinstance(self.program, DiscreteProgram):
            return discrete_positions(self.program, num_points, generator=generator, side=side)
        return init_positions(
            self.program,
            self.in_pieces,
            num_points,
            strategy=strategy,
            generator=generator,
            like=self._like,
            side=side,
        )

    @property
    def _like(self) -> Tensor:
        return torch.empty((), dtype=self.dtype, device=self.device)

    def in_pieces(self, positions: Tensor, side: Side = NO_SIDE) -> tuple[Tensor, Tensor]:
        """Log density and gradient, or changes, of as many positions at a time as memory has room
        for."""
        size = max(1, _EVALUATE_NUMBERS // self.numbers_in_memory)
        if positions.shape[1] <= size or side is not NO_SIDE:
            return self._batched(positions, side)
        return in_pieces(self._batched, positions, size)

    @property
    def _batched(self) -> BatchedDensity:
        if isinstance(self.program, DiscreteProgram):
            return self.program.log_density_and_changes
        has_gradient = self.continuous_dim > 0
        if self.vectorized:
            return vectorized(self.log_density, has_gradient=has_gradient)
        return looped(self.log_density, has_gradient=has_gradient)

    def _probe(self) -> str | None:
        """Compare vmap with a loop at three starts; the reason to avoid vmap, if there is one."""
        if isinstance(self.program, DiscreteProgram):
            return None  # energies take all chains at once
        generator = torch.Generator(self.device).manual_seed(_PROBE_SEED)
        shape = (self.dim, NUM_PROBES)
        unit = torch.rand(shape, generator=generator, dtype=self.dtype, device=self.device)
        positions = 2 * unit - 1
        if self.sampled:
            assert isinstance(self.program, ModelProgram)
            states = self.program.random_states(NUM_PROBES, generator, positions)
            positions = torch.cat([positions[: self.continuous_dim], states])
        return probe(self.log_density, positions, NO_SIDE, has_gradient=self.continuous_dim > 0)


def _generator(device: torch.device) -> torch.Generator:
    """A generator seeded from torch's global one, so that pyro.set_rng_seed repeats a run."""
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
