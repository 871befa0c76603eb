"""What theory says of perceptrons that learn from perceptrons, for many weights (N to infinity).

Averages over data are those of replica-symmetric theory, which is right where a student learns from
a teacher of its own kind. Teacher and student overlap as two students do, and one number says all:
R at temperature 0, G = Tr (posterior covariance) / N for linear ones. Entropies and free energies
are per weight and relative to the prior, as :func:`~pyro_ebm.learning_curve` gives them.

Sources: Gyorgyi, Tishby (1990), Statistical theory of learning a rule; Gyorgyi (1990), First-order
transition to perfect generalization in a neural network with binary synapses; Seung, Sompolinsky,
Tishby (1992), Statistical mechanics of learning from examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import xarray as xr

_BISECTIONS = 100
_ON_CPU: dict = {"dtype": torch.float64, "device": "cpu"}
# log of R/(1 - R), the field that the examples put on a weight.
_LEAST_FIELD, _LARGEST_FIELD = math.log(1e-14), math.log(1e40)


def linear_perceptron_theory(
    alphas: Any,
    temperature: float,
    *,
    noise: float = 0.0,
    prior_deviation: float = 1.0,
) -> xr.Dataset:
    """A `RealTeacher` of standard normal weights, a `Perceptron` with `SquaredError` as student.

    Args:
        alphas: examples per weight, each at least 0; without any there is no training error.
        temperature: T, positive.
        noise: the standard deviation of the teacher's noise.
        prior_deviation: the standard deviation of the student's prior.

    Returns:
        ``training_error``, ``generalisation_error``, ``entropy`` and ``free_energy`` over
        ``alpha``.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"expected a positive temperature, got {temperature}.")
    alpha = _numbers(alphas)
    decay, variance = prior_deviation**-2, noise**2
    t = torch.full_like(alpha, temperature).requires_grad_()
    half = decay * t + alpha - 1.0
    spread = (-half + (half.square() + 4.0 * decay * t).sqrt()) / (2.0 * decay)
    slope = 1.0 / (spread.pow(-2) - alpha / (t + spread).square())
    volume = -(decay * spread).log() + decay * spread - 1.0 + alpha * (1.0 + spread / t).log()
    resolvent = (alpha - 1.0 + decay * spread) / t
    misfit = decay * alpha + (variance - decay * t) * resolvent
    log_z = -0.5 * (volume + misfit)
    (by_temperature,) = torch.autograd.grad(log_z.sum(), t, retain_graph=True)
    energy = temperature**2 * by_temperature
    mean_error = 0.5 * (decay**2 * slope + variance / temperature * (spread - decay * slope))
    log_z = log_z.detach()
    return _dataset(
        alpha,
        training_error=energy / alpha,
        generalisation_error=(mean_error + 0.5 * spread).detach(),
        entropy=log_z + energy / temperature,
        free_energy=-temperature * log_z,
    )


def perceptron_theory(alphas: Any) -> xr.Dataset:
    """A `Perceptron` with `ZeroOne` at temperature 0, taught by one of the same kind: weights on a
    sphere, or normal ones.

    Args:
        alphas: examples per weight, each at least 0.

    Returns:
        ``overlap``, ``generalisation_error`` and ``entropy`` over ``alpha``.

    Raises:
        ValueError: numbers out of what can be computed, 0 or some 1e-13 to 1e19.
    """
    alpha = _numbers(alphas)

    def taught(log_field: Tensor) -> Tensor:
        return log_field.exp() / _pull(log_field.sigmoid(), (-log_field).sigmoid())

    log_field = _root(taught, alpha)
    overlap, rest = log_field.sigmoid(), (-log_field).sigmoid()
    entropy = 0.5 * (rest.log() + overlap) + alpha * _surprise(overlap, rest)
    # The angle between them, by the half of it: near 1 an overlap has lost it.
    angle = 2.0 * (0.5 * rest).sqrt().asin()
    return _dataset(alpha, overlap=overlap, generalisation_error=angle / math.pi, entropy=entropy)


def binary_perceptron_theory(alphas: Any) -> xr.Dataset:
    """A `Perceptron` of binary weights with `ZeroOne` at temperature 0, taught by one of its kind.

    Beside the teacher itself (overlap 1) there is a state of poor generalisation, up to the
    spinodal at alpha = 1.493. It is what equilibrium is while its entropy exceeds that of the
    teacher alone, up to alpha = 1.245; beyond, it is metastable, and what one finds.

    Args:
        alphas: examples per weight, each at least 0.

    Returns:
        ``overlap``, ``generalisation_error`` and ``entropy`` of equilibrium over ``alpha``, and the
        same with ``poor_`` of the poor state, NaN where there is none. Entropies are relative to
        the prior: -log 2 is one configuration.
    """
    alpha = _numbers(alphas)
    log_fields = torch.linspace(math.log(1e-4), math.log(30.0), 4001, **_ON_CPU)
    field = log_fields.exp()
    overlap = _mean_tanh(field)
    along = field / _pull(overlap, 1.0 - overlap)
    top = int(along.argmax())
    spinodal = float(along[top])
    found = torch.full_like(alpha, math.nan)
    there = alpha < spinodal

    def taught(log_field: Tensor) -> Tensor:
        overlap = _mean_tanh(log_field.exp())
        return log_field.exp() / _pull(overlap, 1.0 - overlap)

    if bool(there.any()):
        high = float(log_fields[top])
        found[there] = _root(taught, alpha[there], high=high).exp()
    poor = torch.where(there, _mean_tanh(found), math.nan)
    entropy = torch.where(
        there, _binary_entropy(found, poor) + alpha * _surprise(poor, 1.0 - poor), math.nan
    )
    stays = entropy > -math.log(2.0)
    equilibrium = torch.where(stays, poor, 1.0)
    return _dataset(
        alpha,
        overlap=equilibrium,
        generalisation_error=equilibrium.acos() / math.pi,
        entropy=torch.where(stays, entropy, -math.log(2.0)),
        poor_overlap=poor,
        poor_generalisation_error=poor.acos() / math.pi,
        poor_entropy=entropy,
    )


def high_temperature_theory(examples_per_temperature: Any) -> xr.Dataset:
    """A `Perceptron` with `ZeroOne`, taught by one of its kind, for alpha and T to infinity at a
    fixed alpha/T: training and generalisation error agree, and weights minimise alpha/T times the
    error minus the entropy.

    Args:
        examples_per_temperature: alpha/T.

    Returns:
        ``overlap`` and ``generalisation_error`` over ``alpha``, which stands for alpha/T.
    """
    ratio = _numbers(examples_per_temperature) / math.pi
    overlap = ratio / (1.0 + ratio.square()).sqrt()
    return _dataset(math.pi * ratio, overlap=overlap, generalisation_error=overlap.acos() / math.pi)


def _numbers(alphas: Any) -> Tensor:
    alpha = torch.asarray(alphas, **_ON_CPU, copy=True).reshape(-1)
    if not len(alpha) or not bool(((alpha >= 0) & alpha.isfinite()).all()):
        raise ValueError(
            f"expected finite numbers of examples of at least 0, got {alpha.tolist()}."
        )
    return alpha


def _normal_nodes() -> tuple[Tensor, Tensor]:
    """Nodes and weights of a mean over a standard normal number."""
    t = torch.linspace(-12.0, 12.0, 2401, **_ON_CPU)
    return t, (-0.5 * t.square()).exp() / math.sqrt(2.0 * math.pi) * (t[1] - t[0])


def _pull(overlap: Tensor, rest: Tensor) -> Tensor:
    """What one example a weight adds to the field: the mean of exp(-R t^2/2) / H(sqrt(R) t) over
    normal t, divided by pi sqrt(1 - R); H is the upper tail of the normal distribution.

    :param rest: 1 - R, exact where R is near 1.
    """
    t, weight = _normal_nodes()
    r = overlap[..., None]
    log_ratio = -0.5 * r * t.square() - torch.special.log_ndtr(-r.sqrt() * t)
    return (weight * log_ratio.exp()).sum(-1) / (math.pi * rest.sqrt())


def _surprise(overlap: Tensor, rest: Tensor) -> Tensor:
    """2 times the mean of H log H at sqrt(R/(1-R)) t over normal t: the entropy of an example."""
    nodes, _ = _normal_nodes()
    steep = (overlap / rest).sqrt()[..., None]
    # Where H falls steeply, all there is to add up is near 0.
    width = 1.0 / steep.clamp(min=1.0)
    t = width * nodes
    weight = width * (nodes[1] - nodes[0]) * (-0.5 * t.square()).exp() / math.sqrt(2.0 * math.pi)
    log_tail = torch.special.log_ndtr(-steep * t)
    return 2.0 * (weight * log_tail.exp() * log_tail).sum(-1)


def _mean_tanh(field: Tensor) -> Tensor:
    """The overlap of binary weights in a field of this mean and variance."""
    t, weight = _normal_nodes()
    h = field[..., None]
    return (weight * (h.sqrt() * t + h).tanh()).sum(-1)


def _binary_entropy(field: Tensor, overlap: Tensor) -> Tensor:
    """The entropy of binary weights in such a field, relative to all of them."""
    t, weight = _normal_nodes()
    h = field[..., None]
    x = (h.sqrt() * t + h).abs()
    log_cosh = x + (-2.0 * x).exp().log1p() - math.log(2.0)
    return -0.5 * field * (1.0 + overlap) + (weight * log_cosh).sum(-1)


def _root(
    function: Callable[[Tensor], Tensor],
    wanted: Tensor,
    *,
    low: float = _LEAST_FIELD,
    high: float = _LARGEST_FIELD,
) -> Tensor:
    """Where a rising function, nought at minus infinity, takes the wanted values, by bisection.

    :raises ValueError: values outside of those at the ends.
    """
    lower, upper = torch.full_like(wanted, low), torch.full_like(wanted, high)
    least, most = function(lower), function(upper)
    if not bool((((least <= wanted) | (wanted == 0)) & (wanted <= most)).all()):
        raise ValueError(
            f"expected numbers of examples from {float(least.max()):.2g} to "
            f"{float(most.min()):.2g} a weight, got {wanted.tolist()}."
        )
    for _ in range(_BISECTIONS):
        middle = 0.5 * (lower + upper)
        below = function(middle) < wanted
        lower, upper = torch.where(below, middle, lower), torch.where(below, upper, middle)
    return torch.where(wanted == 0, -torch.inf, 0.5 * (lower + upper))


def _dataset(alpha: Tensor, **variables: Tensor) -> xr.Dataset:
    import xarray as xr

    values = {name: ("alpha", value.detach().numpy()) for name, value in variables.items()}
    return xr.Dataset(values, coords={"alpha": ("alpha", alpha.numpy())})
