"""Losses: what one example costs a network, the terms of a training energy.

A loss takes outputs and targets and gives one number for each example. Those of two classes take
targets of -1 and +1, and judge by the margin, target times output: it is positive where the sign
of the output is right.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional


class ExampleLoss(ABC):
    """What an example costs: `loss(output, target)`, one number for each.

    `differentiable` says whether its gradient tells anything.
    """

    differentiable = True

    @abstractmethod
    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss [*batch, P] of outputs [*batch, P, ...] at targets that broadcast with them."""

    @abstractmethod
    def check_targets(self, targets: Tensor) -> None:
        """Refuse targets that the loss is not made for.

        Raises:
            ValueError: such targets.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class SquaredError(ExampleLoss):
    """1/2 (target - output)^2, of one output an example."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return 0.5 * (target - output).square()

    def check_targets(self, targets: Tensor) -> None:
        if not targets.is_floating_point():
            raise ValueError(
                f"expected real targets for SquaredError, got {targets.dtype}. Convert them, or "
                "take CrossEntropy for classes."
            )


class MarginLoss(ExampleLoss):
    """A loss of the margin, for targets of -1 and +1 and one output an example."""

    @abstractmethod
    def of_margin(self, margin: Tensor) -> Tensor:
        """The loss as a function of target times output."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self.of_margin(output * target)

    def check_targets(self, targets: Tensor) -> None:
        if not bool((targets.abs() == 1).all()):
            seen = targets.unique()[:6].tolist()
            raise ValueError(
                f"expected targets of -1 and +1 for {type(self).__name__}, got values such as "
                f"{seen}. For labels of 0 and 1 write 2 * labels - 1."
            )


class ZeroOne(MarginLoss):
    """1 where the sign of the output is wrong, or the output is 0; else 0. Flat: no gradient."""

    differentiable = False

    def of_margin(self, margin: Tensor) -> Tensor:
        # What is no number is not right either.
        return (margin > 0).logical_not().to(margin.dtype)


class Logistic(MarginLoss):
    """log(1 + exp(-margin)): minus the log likelihood of logistic regression."""

    def of_margin(self, margin: Tensor) -> Tensor:
        return functional.softplus(-margin)


class Hinge(MarginLoss):
    """max(0, m - margin) with a wanted margin m, 1 unless given, as of support vector machines.

    Args:
        margin: from where on an example costs nothing.
    """

    def __init__(self, margin: float = 1.0) -> None:
        self.margin = float(margin)

    def of_margin(self, margin: Tensor) -> Tensor:
        return (self.margin - margin).clamp(min=0.0)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.margin})"


class PerceptronLoss(Hinge):
    """max(0, -margin): how far an example lies on the wrong side."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def __repr__(self) -> str:
        return "PerceptronLoss()"


class CrossEntropy(ExampleLoss):
    """Minus the log probability of a class, of logits [*batch, P, classes], targets 0, 1, ..."""

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        classes = target.expand(output.shape[:-1]).unsqueeze(-1)
        return -output.log_softmax(-1).gather(-1, classes).squeeze(-1)

    def check_targets(self, targets: Tensor) -> None:
        if targets.dtype != torch.long or bool((targets < 0).any()):
            raise ValueError(
                f"expected classes 0, 1, ... as integers (torch.long) for CrossEntropy, got "
                f"{targets.dtype} from {float(targets.min())} on. Write targets.long()."
            )
