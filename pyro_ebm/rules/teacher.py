"""Teachers: rules that give examples, to be learned by students.

A teacher is a network whose weights are drawn once for every data set. A student of the same kind
can follow it without error (a realisable rule); noise, or a teacher richer than its student, makes
a rule that cannot be followed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import vmap

from pyro_ebm.energies import FlatNetwork
from pyro_ebm.energies.training import checked_prior


class Lessons(NamedTuple):
    """D data sets: teachers' weights [D, weights], inputs [D, P, *input] and targets [D, P]."""

    weights: Tensor
    inputs: Tensor
    targets: Tensor


class Teacher(ABC):
    """A network that answers, by outputs or by their signs.

    Args:
        network: any module of one output an example.
        prior: the law of its weights: a distribution over the flat weights, a standard normal one
            unless given.
        inputs: the law of one input; standard normal for a `Perceptron` or a `CommitteeMachine`,
            which know how many there are.

    Raises:
        TypeError: no module, no distributions.
        ValueError: a law of another shape; unknown inputs.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        prior: Distribution | None = None,
        inputs: Distribution | None = None,
    ) -> None:
        self._flat = FlatNetwork(network)
        self.network = network
        self.prior = checked_prior(prior, self._flat)
        if inputs is None:
            size = getattr(network, "num_inputs", None)
            if not isinstance(size, int):
                raise ValueError(
                    f"expected inputs=, a distribution of one input of {type(network).__name__}, "
                    "whose size cannot be told from it."
                )
            zero = torch.zeros(size, dtype=self._flat.dtype, device=self._flat.device)
            normal = torch.distributions.Normal(zero, torch.ones_like(zero), validate_args=False)
            inputs = torch.distributions.Independent(normal, 1, validate_args=False)
            self.gaussian_inputs = True
        else:
            self.gaussian_inputs = False
        if not isinstance(inputs, Distribution) or inputs.batch_shape:
            raise TypeError(f"expected inputs to be a distribution of one input, got {inputs!r}.")
        self.inputs = inputs

    def lessons(self, num_sets: int, num_examples: int) -> Lessons:
        """Data sets of teachers of their own.

        Args:
            num_sets: D.
            num_examples: P.

        Raises:
            ValueError: answers that are not one number an example.
        """
        weights = self.prior.sample((num_sets,)).to(self._flat.dtype)
        inputs = self.inputs.sample((num_sets, num_examples)).to(self._flat.dtype)
        return Lessons(weights, inputs, self.noisy(self.answers(weights, inputs)))

    def answers(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """What teachers [D, weights] answer without noise to inputs [D, P, *input]: [D, P]."""
        outputs = vmap(self._flat.outputs)(weights, inputs)
        if outputs.shape != inputs.shape[:2]:
            raise ValueError(
                "expected one output an example from the teacher, "
                f"got outputs {tuple(outputs.shape[1:])} for {inputs.shape[1]} examples."
            )
        return self.clean(outputs)

    @abstractmethod
    def clean(self, outputs: Tensor) -> Tensor:
        """Answers of outputs, without noise."""

    @abstractmethod
    def noisy(self, answers: Tensor) -> Tensor:
        """Answers as they are taught."""

    @property
    def num_weights(self) -> int:
        """How many weights the teacher has."""
        return self._flat.num_weights


class RealTeacher(Teacher):
    """Answers by its output, with Gaussian noise on top.

    Args:
        network: see `Teacher`.
        noise: the standard deviation of the noise.
        prior: see `Teacher`.
        inputs: see `Teacher`.

    Raises:
        ValueError: a negative noise.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        noise: float = 0.0,
        prior: Distribution | None = None,
        inputs: Distribution | None = None,
    ) -> None:
        super().__init__(network, prior=prior, inputs=inputs)
        if not 0.0 <= noise < float("inf"):
            raise ValueError(f"expected a noise of at least 0, got {noise}.")
        self.noise = float(noise)

    def clean(self, outputs: Tensor) -> Tensor:
        return outputs

    def noisy(self, answers: Tensor) -> Tensor:
        return answers + self.noise * torch.randn_like(answers) if self.noise else answers


class BinaryTeacher(Teacher):
    """Answers by the sign of its output, turned over at a rate.

    Args:
        network: see `Teacher`.
        flip_rate: how often an answer is turned over, from 0 to 1/2.
        prior: see `Teacher`.
        inputs: see `Teacher`.

    Raises:
        ValueError: a rate outside of [0, 1/2].
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        flip_rate: float = 0.0,
        prior: Distribution | None = None,
        inputs: Distribution | None = None,
    ) -> None:
        super().__init__(network, prior=prior, inputs=inputs)
        if not 0.0 <= flip_rate <= 0.5:
            raise ValueError(f"expected a flip_rate between 0 and 1/2, got {flip_rate}.")
        self.flip_rate = float(flip_rate)

    def clean(self, outputs: Tensor) -> Tensor:
        # An output of exactly 0 counts as +1: it is no answer of a perceptron of real weights.
        return torch.where(outputs < 0, -1.0, 1.0).to(outputs.dtype)

    def noisy(self, answers: Tensor) -> Tensor:
        if not self.flip_rate:
            return answers
        return torch.where(torch.rand_like(answers) < self.flip_rate, -answers, answers)
