"""Draws that follow an energy in training from one value of its parameters to the next.

An objective's chains move when they are asked for and the parameters are others than when they last
moved; asked again, they stay. So they move once a step of learning, however often and by whomever
the density is evaluated in between, and a run is a function of its seed and of the values that the
parameters took.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from pyro_ebm.distribution import EnergyDistribution
from pyro_ebm.draws import draw, draw_states, propose_starts
from pyro_ebm.energies import Energy, Tilted
from pyro_ebm.target.discrete import is_discrete

from .annealed_likelihood import AnnealedLikelihood, Particles
from .exact_likelihood import ExactLikelihood, all_configurations, knows_log_z
from .objective import Bound
from .persistent_contrastive_divergence import PersistentContrastiveDivergence

Following = ExactLikelihood | PersistentContrastiveDivergence | AnnealedLikelihood

_CHAINS = 256


class Negatives:
    """The negative phase of an energy in training.

    :ivar state: of the chains, a NamedTuple of tensors; None where log Z is exact.
    :ivar generator: their random stream, seeded from torch's global one.
    :ivar moves: how often they have moved.
    :ivar constant: :meth:`log_normalizer` as a number, as it was when they last moved.
    """

    def __init__(self, energy: Energy, objective: Any, start: Tensor | None) -> None:
        self.energy = energy
        self.objective = _checked(objective, energy)
        self.moves, self.constant = 0, 0.0
        self._learned = parameters_of(energy)
        first = self._learned[0]
        self.generator = torch.Generator(first.device)
        self.generator.manual_seed(int(torch.randint(2**62, ())))
        self.bound: Bound = self.objective.bind(energy)
        self._closed_form = self.exact and knows_log_z(energy)
        self.state: Any = None
        self._seen: list[Tensor] | None = None
        if not self.exact:
            rows = self._starts(first) if start is None else start.to(first)
            self.state = self.bound.begin(rows, self.generator)
            self.follow()

    @property
    def exact(self) -> bool:
        """Whether log Z is computed, so that there are no chains."""
        return isinstance(self.objective, ExactLikelihood)

    @property
    def knows_log_z(self) -> bool:
        """Whether the value of log Z is known too, and not its gradient alone."""
        return not isinstance(self.objective, PersistentContrastiveDivergence)

    def follow(self) -> None:
        """Move the chains if the parameters are others than when they last moved."""
        if self.exact:
            return
        learned = parameters_of(self.energy)
        pairs = zip(learned, self._learned, strict=False)
        if len(learned) != len(self._learned) or any(a is not b for a, b in pairs):
            # Other tensors have taken the place of those that the chains were recorded on.
            self._learned, self._seen = learned, None
            self.bound = self.objective.bind(self.energy)
        seen = self._seen
        if seen is not None and all(map(torch.equal, learned, seen)):
            return
        self._seen = [parameter.detach().clone() for parameter in learned]
        with torch.no_grad():
            row = self.values[:1]
            self.state = self.bound.judge(row, self.state, self.generator).state
            self.constant = float(self.log_normalizer())
        self.moves += 1

    def kept(self) -> tuple[Any, ...]:
        """What :meth:`put_back` takes: the chains, and the parameters that they last moved for."""
        return self.state, self._seen, self.constant

    def put_back(self, kept: tuple[Any, ...]) -> None:
        """The chains as they were, for parameters that are put back too."""
        self.state, self._seen, self.constant = kept

    @property
    def values(self) -> Shaped[Tensor, "m ..."]:
        """Configurations of the chains as they are, [m, *event]; of a small discrete energy whose
        log Z is exact, all there are.

        :raises ValueError: there are none, as the energy itself knows log Z.
        """
        if not self.exact:
            found = self.bound.negatives(self.state)
            assert found is not None
            return found
        return all_configurations(self.energy)

    @property
    def shares(self) -> Float[Tensor, " m"]:
        """How much of p each of the values stands for; they add up to 1."""
        if isinstance(self.state, Particles):
            return self.state.log_weights.softmax(0)
        values = self.values
        if self.exact:
            with torch.no_grad():
                return (-self.energy(values)).double().softmax(0)
        number = len(values)
        return torch.full((number,), 1.0 / number, dtype=torch.float64, device=values.device)

    def log_normalizer(self) -> Float[Tensor, ""]:
        """log Z with its gradient, minus the mean of dE/dtheta over the draws; in float64.

        The value is log Z where the objective knows it. Of chains without weights it is minus their
        mean energy, which is log Z less the entropy of p.
        """
        if self.exact:
            if self._closed_form:
                known = self.energy.log_normalizer(1.0)
                assert known is not None
                return known.double()
            return (-self.energy(self.values)).double().logsumexp(0)
        surrogate = -(self.shares * self.energy(self.values).double()).sum()
        if not self.knows_log_z:
            return surrogate
        log_z = self.log_z()
        assert log_z is not None
        return surrogate + (log_z[0] - surrogate.detach())

    def log_z(self) -> tuple[float, float] | None:
        """log Z of the energy as it is with its standard error, where it is known."""
        if not self.exact:
            return self.bound.log_z(self.state)
        with torch.no_grad():
            return float(self.log_normalizer()), 0.0

    def draws(self, number: int, transitions: int) -> Shaped[Tensor, "number ..."] | None:
        """Draws of p: exact ones where there are, else of chains, chosen by their shares and moved
        on, each for itself; the lasting chains stay. None where log Z is known and no draws are."""
        with torch.no_grad():
            exact = self.energy.exact_sample((number,), generator=self.generator)
            if exact is not None:
                return exact
            if self._closed_form:
                return None
            which = torch.multinomial(self.shares, number, True, generator=self.generator)
            values = self.values[which]
            if self.exact:
                return values
            chains: Any = self.bound
            chains = chains.chains
            state = getattr(self.state, "chains", self.state)
            state = state._replace(positions=chains.positions_of(values, self.generator))
            state, _ = chains.move(state, transitions, self.generator)
            return chains.values(state.positions)

    def _starts(self, like: Tensor) -> Tensor:
        """Rows to start from, where no data are given: draws of the energy before learning, or of
        the base that it is tilted from; else the ends of short chains."""
        number = _CHAINS
        if isinstance(self.objective, PersistentContrastiveDivergence):
            number = self.objective.num_chains or _CHAINS
        with torch.no_grad():
            exact = self.energy.exact_sample((number,), generator=self.generator)
            if exact is not None:
                return exact.to(like)
            if isinstance(self.energy, Tilted):
                return self.energy.base.sample(torch.Size((number,))).to(like)
            if is_discrete(self.energy.support):
                one = torch.ones((), dtype=torch.float64)
                return draw_states(self.energy, one, number, generator=self.generator).to(like)
            known = EnergyDistribution(self.energy)
            return draw(
                known.unnormalized_log_prob,
                lambda: propose_starts(known, torch.Size((number,))),
                known.support,
                generator=self.generator,
            ).to(like)


def parameters_of(energy: Energy) -> list[Tensor]:
    """What is learned of an energy."""
    return [parameter for parameter in energy.parameters() if parameter.requires_grad]


def _checked(objective: Any, energy: Energy) -> Following:
    """An objective whose negatives do not come from data.

    :raises ValueError: nothing of the energy can be learned.
    :raises TypeError: another objective.
    """
    if not parameters_of(energy):
        raise ValueError(
            f"expected an energy with parameters that require a gradient, got "
            f"{type(energy).__name__} with none. A fixed energy, or a function whose tensors are "
            "fixed, is an EnergyDistribution; what is learned belongs to an Energy or an nn.Module."
        )
    if isinstance(objective, str) and objective == "auto":
        objective = ExactLikelihood() if knows_log_z(energy) else PersistentContrastiveDivergence()
    if not isinstance(objective, Following):
        raise TypeError(
            "expected objective to be PersistentContrastiveDivergence(...), "
            f'AnnealedLikelihood(...), ExactLikelihood() or "auto", got {objective!r}: the others '
            "do not know the gradient of log Z without data."
        )
    if isinstance(objective, PersistentContrastiveDivergence) and objective.num_chains is None:
        return dataclasses.replace(objective, num_chains=objective.buffer_size or _CHAINS)
    return objective
