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
from pyro_ebm.energies.flat_network import checked_outputs
from pyro_ebm.energies.training import checked_prior

# How often inputs without an answer are drawn anew.
_TRIES = 100


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
        ValueError: a law of another shape; unknown inputs, or such as the network does not take.
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
        with torch.no_grad(), torch.random.fork_rng([]):
            checked_outputs(self._flat, self._on_device(self.prior.sample()), self._inputs((1,)))

    def lessons(self, num_sets: int, num_examples: int) -> Lessons:
        """Data sets of teachers of their own.

        Args:
            num_sets: D.
            num_examples: P.

        Raises:
            ValueError: answers that are not one number an example.
        """
        weights = self._on_device(self.prior.sample((num_sets,)))
        inputs, answers = self.examples(weights, num_examples)
        return Lessons(weights, inputs, self.noisy(answers))

    def examples(self, weights: Tensor, num_examples: int) -> tuple[Tensor, Tensor]:
        """Inputs [D, P, *input] and what teachers [D, weights] answer to them without noise [D, P].

        An input to which there is no answer, the output being 0, is drawn anew.

        Raises:
            ValueError: answers that are not one number an example, or hardly ever are there.
        """
        shape = (len(weights), num_examples)
        inputs = self._inputs(shape)
        for _ in range(_TRIES):
            answers = self.answers(weights, inputs)
            decided = self.decided(answers)
            if bool(decided.all()):
                return inputs, answers
            chosen = decided.reshape(*shape, *[1] * (inputs.dim() - 2))
            inputs = torch.where(chosen, inputs, self._inputs(shape))
        raise ValueError(
            "expected a teacher that answers, got one whose output is exactly 0 again and again. "
            "Look at its inputs."
        )

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
    def decided(self, answers: Tensor) -> Tensor:
        """Which answers are there."""

    @abstractmethod
    def noisy(self, answers: Tensor) -> Tensor:
        """Answers as they are taught."""

    @property
    def num_weights(self) -> int:
        """How many weights the teacher has."""
        return self._flat.num_weights

    def _inputs(self, shape: tuple[int, ...]) -> Tensor:
        return self._on_device(self.inputs.sample(shape))

    def _on_device(self, values: Tensor) -> Tensor:
        return values.to(dtype=self._flat.dtype, device=self._flat.device)


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

    def decided(self, answers: Tensor) -> Tensor:
        return torch.ones_like(answers, dtype=torch.bool)

    def noisy(self, answers: Tensor) -> Tensor:
        return answers + self.noise * torch.randn_like(answers) if self.noise else answers


class BinaryTeacher(Teacher):
    """Answers by the sign of its output, turned over at a rate.

    Inputs at which the output is exactly 0 have no answer, and are not taught.

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
        return outputs.sign()

    def decided(self, answers: Tensor) -> Tensor:
        return answers != 0

    def noisy(self, answers: Tensor) -> Tensor:
        if not self.flip_rate:
            return answers
        return torch.where(torch.rand_like(answers) < self.flip_rate, -answers, answers)
