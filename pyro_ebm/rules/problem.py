"""A student's task, for many data sets at once: energies of weights [D, n, N]."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from pyro_ebm.energies import Examples, FlatNetwork, Loss, UniformSpins
from pyro_ebm.energies.flat_network import losses_of


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
        self, weights: Tensor, inputs: Tensor, targets: Tensor, loss: Loss | None = None
    ) -> Tensor:
        """Losses [D, n, P] of weights [D, n, N] on inputs [D or 1, P, *input].

        :param loss: another one than that of the problem.
        """
        cost = self.loss if loss is None else loss
        return losses_of(self.flat, cost, weights, Examples(inputs, targets))

    def energies(self, weights: Tensor) -> Tensor:
        """E [D, n] of weights [D, n, N]."""
        return self.per_example(weights, self.inputs, self.targets).sum(-1)
