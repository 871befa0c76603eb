"""A discrete energy as a program: its sites have states, and changes take the place of a gradient.

A position holds the index of the state of every site, 0 to K-1, as floats [dim, chains], which
are exact. Beside the log density a sampler is given what every single change would do to it,

    changes[i, k] = log p(x with site i in state k) - log p(x),

[dim, K, chains], zero where site i is in state k already. They come from the energy itself where it
knows them, else from an energy for each of them, or, for many sites, to first order from the
gradient with respect to the values: then they are not ``exact``, and only samplers that accept or
reject by the log density may use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint
from torch.utils import _pytree as pytree

from pyro_ebm.energies import Bonds, Energy, blocks_of, evaluate
from pyro_ebm.energies.changes import enumerated_changes
from pyro_ebm.energies.states import is_one_hot, spin, states_of
from pyro_ebm.energies.supports import elementwise
from pyro_ebm.normalizers import like_of

from .layout import Site
from .program import Choose, Terms
from .side import NO_SIDE, Side, refuse_side_values

# Changes that are worth an energy each, and numbers held at once for them.
_MOST_ENUMERATED = 512
_NUMBERS = 2**22
_CHECKED_STATES, _CHECKED_SITES = 3, 16


def is_discrete(support: object) -> bool:
    """Whether a support is that of discrete values."""
    return bool(getattr(support, "is_discrete", False))


class DiscreteProgram:
    """The Gibbs distribution exp(-E(x)/T) of a discrete energy; its one variable is called ``x``.

    Attributes: ``num_states`` K of every site; ``exact`` whether the changes are.

    :param exact_changes: True for exact changes whatever they cost; None where they are cheap.
    :raises ValueError: a support without a finite number of states; changes that the energy itself
        gives and that are not differences of its values; an energy without a gradient whose changes
        are not wanted exactly.
    """

    def __init__(
        self, energy: Energy, temperature: Tensor, *, exact_changes: bool | None = None
    ) -> None:
        like = like_of(energy)
        self.energy, self.temperature = energy, temperature.to(like)
        shape = torch.Size(energy.event_shape)
        self.one_hot = is_one_hot(energy.support)
        if self.one_hot:
            self.num_states, sites = shape[-1], shape[:-1]
            self._lowest = torch.zeros_like(like)
            dtype = like.dtype
        else:
            states = states_of(energy.support)
            if states is None:
                raise ValueError(
                    f"expected a discrete support with finitely many states at every site, got "
                    f"{energy.support}. Use constraints.boolean, spin, "
                    "constraints.integer_interval(low, high) or constraints.one_hot."
                )
            self.num_states, sites = len(states), shape
            self._lowest, second = states[0].to(like), states[1 if len(states) > 1 else 0].to(like)
            self._spacing = second - self._lowest
            # As Pyro's: a Categorical draws whole numbers, a Bernoulli floats.
            dtype = torch.long if _is_integer(energy.support) else like.dtype
        self.sites = (Site("x", 0, sites, shape, len(shape), (), dtype, like.device),)
        self.dim = sites.numel()
        self._like = like
        self.exact = True
        self._closed = self.energy.energy_changes(self.values(self._zeros(1))) is not None
        if self._closed:
            self._check_changes()
        else:
            few = self.dim * (self.num_states - 1) <= _MOST_ENUMERATED
            differentiable = self._is_differentiable()
            if exact_changes is False and not differentiable:
                raise ValueError(
                    "expected an energy with a gradient with respect to its values, got one "
                    "without: leave exact_changes at None."
                )
            self.exact = not differentiable or bool(few if exact_changes is None else exact_changes)
        if self.energy.interactions is not None and self.dim:
            self._check_interactions(self.energy.interactions)

    def with_exact_changes(self) -> DiscreteProgram:
        """The same energy with exact changes, whatever they cost."""
        return DiscreteProgram(self.energy, self.temperature, exact_changes=True)

    def values(self, indices: Float[Tensor, "rows dim"]) -> Tensor:
        """Configurations [rows, *event] of indices of states, as floats."""
        shape = self.sites[0].shape
        if self.one_hot:
            states = torch.arange(self.num_states, device=indices.device, dtype=indices.dtype)
            return (indices[..., None] == states).to(self._like).reshape(-1, *shape)
        return (self._lowest + self._spacing * indices).reshape(-1, *shape)

    def indices(self, values: Mapping[str, Tensor]) -> Float[Tensor, "*batch dim"]:
        """The indices of the states of configurations ``x`` [*batch, *event].

        :raises ValueError: something else than ``x``, or values outside the support.
        """
        if set(values) != {"x"}:
            raise ValueError(f"expected values of the variable 'x', got {sorted(values)}.")
        x = torch.as_tensor(values["x"]).to(self._like)
        shape = self.sites[0].shape
        batch = x.shape[: x.dim() - len(shape)]
        inside = tuple(x.shape[len(batch) :]) == tuple(shape)
        if not inside or not bool(self.energy.support.check(x).all()):
            raise ValueError(
                f"expected x [*batch, {', '.join(map(str, shape))}] within {self.energy.support}, "
                f"got shape {tuple(x.shape)}" + (" with values outside of it." if inside else ".")
            )
        found = x.argmax(-1) if self.one_hot else (x - self._lowest) / self._spacing.clamp(min=1)
        return found.to(self._like).reshape(*batch, self.dim)

    def run(self, position: Tensor, side: Side) -> Terms:
        """The terms at one position [dim]."""
        one = side._replace(beta=None if side.beta is None else side.beta[None])
        terms = self.terms(position.to(self._like)[None], one)
        return pytree.tree_map(lambda value: value[0], terms)

    def terms(self, positions: Float[Tensor, "rows dim"], side: Side = NO_SIDE) -> Terms:
        """The terms at many positions."""
        refuse_side_values(side, (), latents=("x",))
        x = self.values(positions)
        energy = evaluate(self.energy, x)
        log_density = -energy / self.temperature
        tempered = log_density if side.beta is None else side.beta * log_density
        value = x.to(self.sites[0].dtype)
        zeros = torch.zeros_like(log_density)
        return Terms(tempered, {"x": value}, {}, {}, {"x": log_density}, {"x": energy}, zeros)

    def log_density_and_changes(
        self, positions: Float[Tensor, "dim chains"], side: Side = NO_SIDE
    ) -> tuple[Float[Tensor, " chains"], Float[Tensor, "dim states chains"]]:
        """The log density of every chain, and what every single change adds to it, both without a
        graph behind them: parameters of the energy may be in training."""
        refuse_side_values(side, (), latents=("x",))
        indices = positions.T
        x = self.values(indices)
        if self._closed or self.exact:
            energy = evaluate(self.energy, x)
            found = self.energy.energy_changes(x) if self._closed else None
            rise = self._enumerated(indices, energy) if found is None else found
        else:
            energy, rise = self._first_order(x, indices)
        rise = rise.reshape(-1, self.dim, self.num_states).permute(1, 2, 0)
        beta = 1.0 if side.beta is None else side.beta
        scale = beta / self.temperature
        # Zero times an infinite energy is no number, where zero is meant.
        return (-energy * scale).detach(), (-rise * scale).contiguous().detach()

    @property
    def bonds(self) -> Bonds | None:
        """The terms of an energy of pairs over the temperature; None where it is not known as one.

        They are those of the values, not of the indices of states.
        """
        found = getattr(self.energy, "bonds", None)
        if not isinstance(found, Bonds):
            return None
        factor = 1.0 / self.temperature
        return Bonds(found.pairs, found.strengths.detach() * factor, found.fields.detach() * factor)

    @property
    def blocks(self) -> Tensor:
        """The number of the block of each site [dim]: sites of one block do not interact."""
        pairs = self.energy.interactions
        if pairs is None:
            return torch.arange(self.dim, device=self._like.device)
        found = torch.zeros(self.dim, dtype=torch.long, device=self._like.device)
        for number, block in enumerate(blocks_of(pairs, self.dim)):
            found[block] = number
        return found

    @property
    def spins(self) -> bool:
        """Whether the sites are spins, -1 or +1."""
        return float(self._lowest) == -1.0 and isinstance(
            elementwise(self.energy.support), type(spin)
        )

    def start(self, choose: Choose) -> Tensor:
        """Not offered: starts are random states, see :meth:`starts`."""
        raise TypeError("a discrete target starts from random states; it takes no init strategy.")

    def starts(self, num_points: int, generator: torch.Generator) -> Float[Tensor, "dim points"]:
        """Independent uniform states of every site."""
        shape = (self.dim, num_points)
        drawn = torch.randint(self.num_states, shape, generator=generator, device=self._like.device)
        return drawn.to(self._like)

    def _zeros(self, rows: int) -> Tensor:
        return self._like.new_zeros(rows, self.dim)

    def _enumerated(self, indices: Tensor, energy: Tensor) -> Tensor:
        """Changes of the energy [rows, dim, K], an energy for each."""
        return enumerated_changes(
            lambda moved: evaluate(self.energy, self.values(moved)),
            indices,
            self.num_states,
            now=energy,
            chunk_size=_NUMBERS // self.dim,
        )

    def _first_order(self, x: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The energies, and their changes [rows, dim, K] to first order."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = evaluate(self.energy, x)
            (gradient,) = torch.autograd.grad(energy.sum(), x)
        if self.one_hot:
            slope = gradient.reshape(-1, self.dim, self.num_states)
            rise = slope - slope.gather(-1, indices.long()[..., None])
        else:
            every = torch.arange(self.num_states, device=x.device, dtype=x.dtype)
            along = self._spacing * (every - indices[..., None])
            rise = gradient.reshape(-1, self.dim, 1) * along
        return energy.detach(), rise

    def _is_differentiable(self) -> bool:
        try:
            with torch.enable_grad():
                x = self.values(self._zeros(1)).requires_grad_()
                (gradient,) = torch.autograd.grad(evaluate(self.energy, x).sum(), x)
        except RuntimeError:  # no path from the values to the energy
            return False
        return bool(gradient.isfinite().all())

    def _check_changes(self) -> None:
        """Compare the energy's own changes with differences at some sites of a few configurations.

        :raises ValueError: they differ, or have another shape.
        """
        generator = torch.Generator(self._like.device).manual_seed(_CHECKED_STATES)
        indices = self.starts(_CHECKED_STATES, generator).T
        x = self.values(indices)
        energy = evaluate(self.energy, x)
        given = self.energy.energy_changes(x)
        assert given is not None
        name, numbers = type(self.energy).__name__, self.dim * self.num_states
        if given.numel() != len(x) * numbers:
            raise ValueError(
                f"expected energy_changes of {name} to give {numbers} numbers for a configuration, "
                f"one for each state of each of {self.dim} sites, got shape {tuple(given.shape)}."
            )
        given = given.reshape(len(x), self.dim, self.num_states)
        for site in torch.linspace(0, self.dim - 1, min(self.dim, _CHECKED_SITES)).long().tolist():
            for state in range(self.num_states):
                moved = indices.clone()
                moved[:, site] = state
                right = evaluate(self.energy, self.values(moved)) - energy
                scale = 1e4 * torch.finfo(energy.dtype).eps * (1 + energy.abs() + right.abs())
                both = right.isfinite() & given[:, site, state].isfinite()
                wrong = both & ((given[:, site, state] - right).abs() > scale)
                if bool(wrong.any()):
                    raise ValueError(
                        f"expected energy_changes of {name} to be differences of its energy, got "
                        f"{float(given[wrong, site, state][0]):.6g} at site {site}, state {state} "
                        f"where the difference is {float(right[wrong][0]):.6g}."
                    )

    def _check_interactions(self, pairs: Tensor) -> None:
        """Look at a few configurations whether two sites that are no pair do not interact.

        Then the energies of both changed, each alone and neither add up crosswise.

        :raises ValueError: they do interact.
        """
        generator = torch.Generator(self._like.device).manual_seed(_CHECKED_STATES)
        start = self.starts(_CHECKED_STATES, generator).T
        other = (start + 1) % self.num_states
        among = torch.linspace(0, self.dim - 1, min(self.dim, _CHECKED_SITES)).long().tolist()
        known = {frozenset(pair) for pair in pairs.tolist()}
        apart = [(i, j) for i, j in combinations(among, 2) if frozenset((i, j)) not in known]
        if not apart:
            return
        corners = []
        for changed in ((), (0,), (1,), (0, 1)):
            moved = start.repeat(len(apart), 1, 1)
            for row, pair in enumerate(apart):
                for end in changed:
                    moved[row, :, pair[end]] = other[:, pair[end]]
            corners.append(evaluate(self.energy, self.values(moved.reshape(-1, self.dim))))
        neither, first, second, both = (part.reshape(len(apart), -1) for part in corners)
        crosswise = both + neither - first - second
        size = sum(part.abs() for part in (neither, first, second, both))
        scale = 1e4 * torch.finfo(crosswise.dtype).eps * (1 + size)
        wrong = (crosswise.isfinite() & (crosswise.abs() > scale)).any(1)
        if bool(wrong.any()):
            i, j = apart[int(wrong.nonzero()[0, 0])]
            raise ValueError(
                f"expected interactions of {type(self.energy).__name__} to name all pairs of sites "
                f"that interact, got none of sites {i} and {j}, whose energy is not a sum of one "
                "of each. Name the pair, or give None where interactions are not known."
            )


def _is_integer(support: Constraint) -> bool:
    return isinstance(elementwise(support), constraints.integer_interval)
