"""What a student gets wrong: the error that is told, whatever loss it was taught by.

Of losses of two classes it is the share of wrong signs, of `CrossEntropy` that of wrong classes,
and of any other loss the loss itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_ebm.energies import (
    CrossEntropy,
    FlatNetwork,
    Loss,
    MarginLoss,
    Perceptron,
    SquaredError,
    ZeroOne,
)

from .teacher import BinaryTeacher, RealTeacher, Teacher


def wrong_class(output: Tensor, target: Tensor) -> Tensor:
    """1 where the largest of the outputs [*batch, classes] is not the target's, else 0."""
    return (output.argmax(-1) != target).to(output.dtype)


def error_of(loss: Loss) -> Loss:
    """The error that goes with a loss."""
    if isinstance(loss, MarginLoss):
        return ZeroOne()
    return wrong_class if isinstance(loss, CrossEntropy) else loss


def overlap(weights: Tensor, teachers: Tensor) -> Tensor:
    """R = w . w' / (|w| |w'|) of weights [D, n, N] with their teachers' [D, N]: [D, n]."""
    return torch.cosine_similarity(weights, teachers[:, None], dim=-1)


def closed_form_error(teacher: Teacher, student: FlatNetwork, loss: Loss) -> Loss | None:
    """The generalisation error [D, n] as a function of weights [D, n, N] and teachers [D, N], where
    it is known: of perceptrons that learn from perceptrons, on isotropic Gaussian inputs.

    The angle between two perceptrons is the share of inputs on which they disagree; of linear ones
    it is half the mean square of the difference.
    """
    both = isinstance(teacher.network, Perceptron) and isinstance(student.network, Perceptron)
    if not both or not teacher.gaussian_inputs or teacher.num_weights != student.num_weights:
        return None
    if isinstance(loss, MarginLoss) and isinstance(teacher, BinaryTeacher):
        return lambda weights, teachers: overlap(weights, teachers).clamp(-1, 1).acos() / math.pi
    if isinstance(loss, SquaredError) and isinstance(teacher, RealTeacher):
        return lambda weights, teachers: 0.5 * (weights - teachers[:, None]).square().mean(-1)
    return None
