"""The training energy: a function of the weights of a network, the sum of its losses on examples.

    E(w) = sum over examples mu of loss(f_w(x_mu), y_mu)

At temperature T the weights are distributed as p(w) proportional to prior(w) exp(-E(w)/T): the
temperature weighs the examples against the prior, and leaves the prior as it is. With the prior
normalised, Z(T) is the mean of exp(-E/T) over it. For errors counted by `ZeroOne` Z(0) is the
prior's share of the weights that make no error, the volume of version space.

Source: Seung, Sompolinsky, Tishby (1992), Statistical mechanics of learning from examples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, constraints
from torch.func import vmap

from .base import Energy
from .checks import as_temperature
from .flat_network import Examples, FlatNetwork, checked_outputs, flip_changes, losses_of
from .losses import CrossEntropy, ExampleLoss
from .perceptron import FieldNetwork
from .supports import as_support, elementwise
from .tilted import Tilted
from .uniform_spins import UniformSpins


class TrainingEnergy(Energy):
    """The sum of the losses of a network on examples, as an energy of its weights, one flat vector.

    Args:
        network: any nn.Module; its parameters say how many weights there are, their values are not
            looked at. Put nets with dropout or batch normalisation into eval mode.
        loss: an `ExampleLoss` (`SquaredError`, `ZeroOne`, `Logistic`, `Hinge`, `PerceptronLoss`,
            `CrossEntropy`), or any function of outputs and targets that gives one number an
            example.
        examples: inputs [P, *input] and targets [P, ...], a pair or `Examples`.
        prior: a distribution over the flat weights, a standard normal one unless given; with
            `UniformSpins` weights are binary.

    Raises:
        TypeError: a network that is no module, a prior that is no distribution, examples that are
            no tensors.
        ValueError: a network without weights, or in train mode; a prior over another number of
            weights; a loss that does not give one number an example; targets that the loss is not
            made for.
    """

    def __init__(
        self,
        network: Any,
        loss: Any,
        examples: Any,
        prior: Any = None,
    ) -> None:
        flat = FlatNetwork(network)
        prior = checked_prior(prior, flat)
        super().__init__((flat.num_weights,), support=prior.support)
        inputs, targets = checked_examples(examples, flat)
        self.network, self.loss, self.prior = network, loss, prior
        self._flat = flat
        self.register_buffer("inputs", inputs)
        self.register_buffer("targets", targets)
        self.inputs: Tensor
        self.targets: Tensor
        check_loss(flat, loss, Examples(inputs, targets), prior)

    @property
    def num_examples(self) -> int:
        """P."""
        return len(self.inputs)

    @property
    def num_weights(self) -> int:
        """N."""
        return self._flat.num_weights

    def at(self, temperature: float | Tensor) -> Tilted:
        """The energy of prior(w) exp(-E(w)/T), which is then at temperature 1.

        What samples, anneals or minimises takes it; its log Z is the logarithm of the prior's mean
        of exp(-E/T). `AIS(training.at(T), base=training.prior)` anneals from the prior.

        Args:
            temperature: T, positive.

        Raises:
            ValueError: not positive and finite.
        """
        return Tilted(self / as_temperature(temperature), self.prior)

    def on(self, examples: Examples | tuple[Tensor, Tensor]) -> TrainingEnergy:
        """The same energy on other examples: for test errors."""
        return TrainingEnergy(self.network, self.loss, examples, prior=self.prior)

    def parameters_of(self, weights: Tensor) -> dict[str, Tensor]:
        """Flat weights [*batch, N] as the network's parameters by name, [*batch, *shape]."""
        return self._flat.named(weights)

    def outputs(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """What networks of weights [n, N] answer to inputs [P, *input]: [n, P, ...]."""
        return vmap(self._flat.outputs, in_dims=(0, None))(weights, inputs)

    def forward(self, x: Tensor) -> Tensor:
        examples = Examples(self.inputs[None], self.targets[None])
        return losses_of(self._flat, self.loss, x[None], examples)[0].sum(-1)

    def energy_changes(self, x: Tensor) -> Tensor | None:
        """Of binary weights of a network of fields, by moving the fields: every state of a weight
        costs as much as one example of one field."""
        if not isinstance(self.network, FieldNetwork) or not isinstance(self.prior, UniformSpins):
            return None
        flips = flip_changes(self.network, self.loss, x, Examples(self.inputs, self.targets))
        zero = torch.zeros_like(flips)
        up = x > 0
        return torch.stack([torch.where(up, flips, zero), torch.where(up, zero, flips)], -1)

    def extra_repr(self) -> str:
        return f"{self.num_weights} weights, {self.num_examples} examples, loss={self.loss}"


def checked_prior(prior: object, flat: FlatNetwork) -> Distribution:
    """A prior over the flat weights; a standard normal one for None.

    Raises:
        TypeError: no distribution.
        ValueError: over events of another shape; neither over real numbers nor `UniformSpins`.
    """
    wanted = (flat.num_weights,)
    if prior is None:
        zero = torch.zeros(wanted, dtype=flat.dtype, device=flat.device)
        return Independent(Normal(zero, torch.ones_like(zero)), 1, validate_args=False)
    if not isinstance(prior, Distribution):
        raise TypeError(
            f"expected prior to be a torch or Pyro distribution, got {type(prior).__name__}."
        )
    if tuple(prior.event_shape) != wanted or prior.batch_shape:
        raise ValueError(
            f"expected a prior over the {flat.num_weights} weights of the network, event shape "
            f"{wanted} and batch shape (), got event shape {tuple(prior.event_shape)} and batch "
            f"shape {tuple(prior.batch_shape)}. Write Normal(0.0, 1.0).expand({list(wanted)})"
            ".to_event(1), or UniformSpins for binary weights."
        )
    real = isinstance(elementwise(as_support(prior.support)), type(constraints.real))
    if not real and not isinstance(prior, UniformSpins):
        raise ValueError(
            f"expected a prior over real numbers, or UniformSpins({flat.num_weights}) for binary "
            f"weights, got {prior}."
        )
    return prior


def checked_examples(examples: Any, flat: FlatNetwork) -> tuple[Tensor, Tensor]:
    """Inputs and targets of equal number, numbers of inputs in the dtype of the weights.

    Raises:
        TypeError: no pair of tensors.
        ValueError: none, not as many targets as inputs, or numbers that are not finite.
    """
    if not isinstance(examples, tuple | list) or len(examples) != 2:
        raise TypeError("expected examples to be a pair of tensors: inputs and targets.")
    inputs, targets = examples
    if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
        raise TypeError(
            f"expected inputs and targets to be tensors, got {type(inputs).__name__} and "
            f"{type(targets).__name__}."
        )
    if inputs.dim() < 1 or targets.dim() < 1 or len(inputs) != len(targets) or not len(inputs):
        raise ValueError(
            "expected inputs [P, *input] and targets [P, ...] of the same P of at least 1, got "
            f"shapes {tuple(inputs.shape)} and {tuple(targets.shape)}."
        )
    for name, values in (("inputs", inputs), ("targets", targets)):
        wrong = ~values.flatten(1).isfinite().all(1) if values.dim() > 1 else ~values.isfinite()
        if bool(wrong.any()):
            raise ValueError(
                f"expected finite {name}, got NaN or infinity in {int(wrong.sum())} of "
                f"{len(values)} examples. Leave these out, or fill them in."
            )
    kind = {"dtype": flat.dtype, "device": flat.device}
    # Sums over weights are of numbers; other networks may want whole ones.
    numbers = inputs.is_floating_point() or isinstance(flat.network, FieldNetwork)
    inputs = inputs.to(**kind) if numbers else inputs.to(flat.device)
    targets = targets.to(**kind) if targets.is_floating_point() else targets.to(flat.device)
    return inputs, targets


def check_loss(flat: FlatNetwork, loss: Any, examples: Examples, prior: Distribution) -> None:
    """Refuse a loss that does not go with the outputs and the targets.

    Raises:
        TypeError: a loss that cannot be called.
        ValueError: targets that it is not made for; not one number an example.
    """
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(
            f"expected a loss such as SquaredError() or a function of outputs and targets, got "
            f"{loss!r}."
        )
    inputs, targets = examples
    if isinstance(loss, ExampleLoss):
        loss.check_targets(targets)
    with torch.no_grad(), torch.random.fork_rng([]):
        weights = prior.sample().to(dtype=flat.dtype, device=flat.device)
        outputs = checked_outputs(flat, weights, inputs)
        if isinstance(loss, ExampleLoss):
            _check_outputs(outputs, targets, loss)
        values = loss(outputs, targets)
    if not isinstance(values, Tensor) or values.shape != (len(inputs),):
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"expected the loss to give one number for each of the {len(inputs)} examples, shape "
            f"({len(inputs)},), got {got} of outputs {tuple(outputs.shape)} and targets "
            f'{tuple(targets.shape)}. Losses of torch want reduction="none"; sum over outputs.'
        )
    if not values.is_floating_point():
        raise ValueError(f"expected losses in floating point, got {values.dtype}.")


def _check_outputs(outputs: Tensor, targets: Tensor, loss: ExampleLoss) -> None:
    wanted = outputs.shape[:-1] if isinstance(loss, CrossEntropy) else outputs.shape
    if targets.shape == wanted and targets.dim() == 1:
        if isinstance(loss, CrossEntropy) and int(targets.max()) >= outputs.shape[-1]:
            raise ValueError(
                f"expected classes below {outputs.shape[-1]}, the number of outputs, got "
                f"{int(targets.max())}."
            )
        return
    advice = (
        ""
        if outputs.dim() < 2 or outputs.shape[-1] != 1
        else (" A network with one output an example gives [P]: add torch.nn.Flatten(0).")
    )
    raise ValueError(
        f"expected targets [P] beside outputs "
        f"{'[P, classes]' if isinstance(loss, CrossEntropy) else '[P]'} for {loss}, got targets "
        f"{tuple(targets.shape)} and outputs {tuple(outputs.shape)}.{advice}"
    )
