"""A flow over standardised columns as a distribution over raw vectors.

Flows want columns of mean 0 and standard deviation 1 (the splines of a neural spline flow are the
identity beyond [-5, 5]). The standardisation is a part of the density,

    log p(x) = log q((x - loc) / scale) - sum_i log scale_i ,

so that log p is that of the raw data, in nats, whatever the units of the columns are.
"""

from __future__ import annotations

from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import ComposeTransform, Transform, constraints
from torch.distributions.transforms import AffineTransform

from pyro_ebm.shapes import joint_shape

from .modules import frozen, own_copy


class FlowDistribution(TorchDistribution):
    """The distribution of ``loc + scale * y`` with y from a flow; draws are reparametrised.

    It goes wherever a distribution over vectors does: in ``pyro.sample``, as ``base=`` of
    :class:`AIS`, in ``Tilted(net, base)``, as noise.

    :param flow: a module that builds a distribution over vectors [dim] when it is called, such as
        those of ``zuko.flows``.
    :param loc: what is added to its draws.
    :param scale: what multiplies them before, positive.
    """

    has_rsample = True

    def __init__(
        self,
        flow: nn.Module,
        loc: Float[Tensor, " dim"],
        scale: Float[Tensor, " dim"],
        *,
        batch_shape: torch.Size = torch.Size(),  # noqa: B008 - it is immutable
        validate_args: bool | None = None,
    ) -> None:
        self.flow, self.loc, self.scale = flow, loc, scale
        super().__init__(batch_shape, loc.shape, validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """None: what the distribution is made of is checked when it is made."""
        return {}

    @property
    def support(self) -> constraints.Constraint:
        """All vectors."""
        return constraints.real_vector

    def expand(self, batch_shape: Any, _instance: Any = None) -> FlowDistribution:
        """The same for every element of a batch."""
        shape = torch.Size(batch_shape)
        return FlowDistribution(
            self.flow, self.loc, self.scale, batch_shape=shape, validate_args=self._validate_args
        )

    def log_prob(self, value: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*batch"]:
        """The log density of raw vectors, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        # A check of values inside would be a branch on tensors, which no recording can hold.
        with pyro.validation_enabled(False):
            log_prob: Tensor = self.flow().log_prob((value - self.loc) / self.scale)
        log_prob = log_prob - self.scale.log().sum()
        shape = joint_shape(log_prob.shape, self.batch_shape)
        return log_prob.expand(shape)

    def rsample(self, sample_shape: Any = ()) -> Float[Tensor, "*batch dim"]:
        """Draws, differentiable in the parameters of the flow."""
        shape = torch.Size(sample_shape) + self.batch_shape
        with pyro.validation_enabled(False):
            return self.loc + self.scale * self.flow().rsample(shape)

    @property
    def transform(self) -> Transform:
        """The map from z, the flow's own base, to raw vectors.

        :raises ValueError: the flow is not one bijection of a base (a mixture, say).
        """
        to_base = getattr(self.flow(), "transform", None)
        if not isinstance(to_base, Transform):
            raise ValueError(
                f"expected a flow that maps a base by a transform, got {type(self.flow).__name__}, "
                "which has none."
            )
        return ComposeTransform([to_base.inv, AffineTransform(self.loc, self.scale, event_dim=1)])

    def converted(self, like: Tensor) -> FlowDistribution:
        """A frozen copy of the dtype and on the device of a tensor."""
        flow = frozen(own_copy(self.flow, len(self.loc), like=like))
        return FlowDistribution(flow, self.loc.to(like), self.scale.to(like))

    def __repr__(self) -> str:
        return (
            f"FlowDistribution({type(self.flow).__name__}, event_shape={tuple(self.event_shape)})"
        )
