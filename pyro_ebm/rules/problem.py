"""A student's task, for many data sets at once: energies of weights [D, n, N]."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.func import vmap

from pyro_ebm.energies import ExampleLoss, FieldNetwork, FlatNetwork, Loss, UniformSpins


class Problem(NamedTuple):
    """A network, its loss and prior, and D data sets of P examples: inputs [D, P, *input] and
    targets [D, P, ...]. One data set that all share has D = 1."""

    flat: FlatNetwork
    loss: Loss
    prior: Distribution
    inputs: Tensor
    targets: Tensor

    @property
    def binary(self) -> bool:
        """Whether weights are -1 or +1."""
        return isinstance(self.prior, UniformSpins)

    @property
    def independent_normal(self) -> bool:
        """Whether the prior is one of independent normal weights."""
        base = self.prior
        while isinstance(base, Independent):
            base = base.base_dist
        return isinstance(base, Normal)

    @property
    def mean(self) -> Tensor:
        """Prior means [N]."""
        return self.prior.mean.to(dtype=self.flat.dtype, device=self.flat.device)

    @property
    def deviation(self) -> Tensor:
        """Prior standard deviations [N]."""
        return self.prior.stddev.to(dtype=self.flat.dtype, device=self.flat.device)

    def per_example(
        self, weights: Tensor, inputs: Tensor, targets: Tensor, loss: Callable | None = None
    ) -> Tensor:
        """Losses [D, n, P] of weights [D, n, N] on inputs [D or 1, P, *input].

        :param loss: another one than that of the problem.
        """
        cost = self.loss if loss is None else loss
        network = self.flat.network
        if isinstance(network, FieldNetwork) and isinstance(cost, ExampleLoss):
            # One product of matrices for all weights of a data set.
            fields = network.fields(weights, inputs.unsqueeze(1))
            return cost(network.output(fields), targets.unsqueeze(1))

        def one(single: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return cost(self.flat.outputs(single, x), y)

        if len(inputs) == 1:
            rows = vmap(one, in_dims=(0, None, None))(weights.flatten(0, 1), inputs[0], targets[0])
            return rows.unflatten(0, weights.shape[:2])
        return vmap(vmap(one, in_dims=(0, None, None)))(weights, inputs, targets)

    def energies(self, weights: Tensor) -> Tensor:
        """E [D, n] of weights [D, n, N]."""
        return self.per_example(weights, self.inputs, self.targets).sum(-1)
