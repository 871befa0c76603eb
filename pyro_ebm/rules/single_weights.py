"""One weight after the other: Metropolis sweeps over networks of fields, of many data sets at once.

Weight i of a network moves to

    -w_i                                        of binary weights,
    sqrt(1 - s^2) w_i + s sigma g               of Gaussian ones, around their mean; g normal,

which leaves the prior as it is, so that the loss alone decides: the move is taken with probability
min(1, exp(-beta (E' - E))). Only the fields of one unit move, along one column of the inputs, and
the energy costs P numbers, where a network computed anew costs N P. At beta = infinity a move is
taken where no example is lost by it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ebm.energies import FieldNetwork, MarginLoss, Perceptron

from .problem import Problem


class FieldState(NamedTuple):
    """Weights [D, n, N] with their energies [D, n] and sums [K, D, n, P], the fields unscaled."""

    weights: Tensor
    energy: Tensor
    sums: Tensor


class SingleWeights:
    """Sweeps over the weights of data sets in a batch.

    :param problem: a network of fields; independent weights, Gaussian or uniform over -1 and +1.
    """

    target_acceptance = 0.44

    def __init__(self, problem: Problem) -> None:
        network = problem.flat.network
        assert isinstance(network, FieldNetwork)
        self._problem, self._network = problem, network
        self._binary = problem.binary
        inputs, targets = problem.inputs, problem.targets
        self._loss = problem.loss
        # A margin is the field of an input that carries its label.
        loss = problem.loss
        if isinstance(network, Perceptron) and isinstance(loss, MarginLoss):
            inputs, targets = inputs * targets[..., None], torch.ones_like(targets)
            self._loss = lambda output, target: loss.of_margin(output)
        self._inputs, self._targets = inputs, targets[:, None]
        self._columns = inputs.permute(2, 0, 1).contiguous()

    def begin(self, weights: Tensor) -> FieldState:
        """The state of weights [D, n, N]."""
        sums = self._network.sums(weights, self._inputs.unsqueeze(1)).movedim(-1, 0).contiguous()
        return FieldState(weights, self._energy(sums), sums)

    def take(self, state: FieldState, index: Tensor) -> FieldState:
        """The state of the particles ``index`` [D, n] of every data set."""
        # Sums that are computed anew forget what rounding has added to them.
        rows = torch.arange(len(index), device=index.device)[:, None]
        return self.begin(state.weights[rows, index])

    def sweep(
        self, state: FieldState, beta: float, scale: Tensor, generator: torch.Generator
    ) -> tuple[FieldState, Tensor]:
        """Every weight once, in order.

        :param scale: s of every data set [D]; binary weights have none.
        :returns: the state, and the share of moves taken [D].
        """
        weights, energy, sums = (part.clone() for part in state)
        sets, particles, dim = weights.shape
        columns = self._network.num_inputs
        kind = {"generator": generator, "dtype": weights.dtype, "device": weights.device}
        uniform = torch.rand(dim, sets, particles, **kind)
        if self._binary:
            proposed = -weights.movedim(-1, 0)
        else:
            normal = torch.randn(dim, sets, particles, **kind)
            mean = self._problem.mean[:, None, None]
            sigma = self._problem.deviation[:, None, None]
            step = scale.to(weights)[:, None]
            apart = weights.movedim(-1, 0) - mean
            proposed = mean + (1.0 - step.square()).sqrt() * apart + step * sigma * normal
        taken = weights.new_zeros(sets)
        for place in range(dim):
            unit, column = divmod(place, columns)
            shift = (proposed[place] - weights[..., place]).unsqueeze(-1)
            inputs = self._columns[column].unsqueeze(1)
            moved = torch.addcmul(sums[unit], shift, inputs)
            after = self._energy(self._with(sums, unit, moved))
            worse = after - energy
            # No loss is no loss, also at beta = infinity.
            log_ratio = torch.where(worse <= 0, 0.0, -beta * worse)
            accept = uniform[place].log() < log_ratio
            sums[unit] = torch.where(accept.unsqueeze(-1), moved, sums[unit])
            energy = torch.where(accept, after, energy)
            weights[..., place] = torch.where(accept, proposed[place], weights[..., place])
            taken += accept.to(taken).mean(1)
        return FieldState(weights, energy, sums), taken / dim

    def _with(self, sums: Tensor, unit: int, moved: Tensor) -> Tensor:
        if len(sums) == 1:
            return moved.unsqueeze(0)
        return torch.stack([moved if k == unit else part for k, part in enumerate(sums)])

    def _energy(self, sums: Tensor) -> Tensor:
        outputs = self._network.output_of_sums(sums.movedim(0, -1))
        return self._loss(outputs, self._targets).sum(-1)
