"""What an energy must satisfy, each as a function with an error that says what to do.

Checks of shapes, dtypes and layers are cheap and run at every call. Checks of values look at
numbers, which do not exist while torch traces or vectorises: `values_visible` tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _get_current_dispatch_mode

from pyro_ebm.shapes import joint_shape

# Functions of torch.nn.functional that draw while `training` is true.
_DROPOUTS = {
    functional.alpha_dropout,
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.feature_alpha_dropout,
}


def values_visible() -> bool:
    """Whether tensors hold numbers now: no vmap or grad level, no tracing, no compilation."""
    return (
        not torch.compiler.is_compiling()
        and peek_interpreter_stack() is None
        and _get_current_dispatch_mode() is None
        and not torch._C._is_tracing()
    )


def sizes_of(tensor: Tensor) -> torch.Size:
    """The shape of a tensor in plain integers, also while `torch.jit.trace` makes them tensors."""
    if torch._C._is_tracing():
        with unrecorded():
            return tensor.shape
    return torch.Size(tensor.shape)  # a tensor that carries provenance answers with a tuple


def joint_sizes(*shapes: Sequence[Any]) -> torch.Size:
    """The shape that shapes broadcast to, in plain integers."""
    if torch._C._is_tracing():
        with unrecorded():
            return joint_shape(*([int(size) for size in shape] for shape in shapes))
    return joint_shape(*shapes)


@contextmanager
def unrecorded() -> Iterator[None]:
    """Suspend `torch.jit.trace`, for arithmetic with sizes alone."""
    tracer: Any = torch._C
    state = tracer._get_tracing_state()
    tracer._set_tracing_state(None)
    try:
        yield
    finally:
        tracer._set_tracing_state(state)


def as_temperature(temperature: object) -> Tensor:
    """A temperature as a tensor, numbers in float64.

    Raises:
        TypeError: not a real number and not a real tensor.
        ValueError: not positive, or not finite.
    """
    if isinstance(temperature, Tensor):
        if temperature.is_complex() or temperature.dtype == torch.bool:
            raise TypeError(f"expected a real temperature, got a tensor of {temperature.dtype}.")
        value = temperature
        legal = not values_visible() or bool(((value > 0) & value.isfinite()).all())
    elif isinstance(temperature, Real) and not isinstance(temperature, bool):
        value = torch.tensor(float(temperature), dtype=torch.float64)
        legal = 0.0 < float(temperature) < math.inf
    else:
        raise TypeError(
            f"expected a temperature that is a real number or tensor, "
            f"got {type(temperature).__name__}."
        )
    if not legal:
        raise ValueError(
            f"expected a positive, finite temperature, got {temperature}. The density is "
            "exp(-E(x)/T); to turn an energy upside down write -1.0 * energy."
        )
    return value


def check_output(value: object, rows: int, name: str) -> Tensor:
    """One real number per configuration, as a tensor of shape [rows].

    Args:
        value: what an energy returned for a batch [rows, *event].
        rows: the number of configurations.
        name: what to call the energy in an error.

    Raises:
        TypeError: not a tensor; complex, integer or boolean.
        ValueError: neither of shape [rows] nor [rows, 1].
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"expected {name} to return a real tensor, got {type(value).__name__}. "
            "Return the energy alone, as a tensor made from x."
        )
    if value.is_complex():
        raise TypeError(
            f"expected {name} to return real energies, got {value.dtype}. "
            "Return .real, or .abs().square() of an amplitude."
        )
    if not value.is_floating_point():
        raise TypeError(
            f"expected {name} to return floating-point energies, got {value.dtype}. "
            "An energy of integers has no gradient; compute it in the dtype of x, "
            "or convert it with .to(torch.get_default_dtype())."
        )
    shape = sizes_of(value)
    if shape == (rows,):
        return value
    if shape == (rows, 1):
        return value.squeeze(-1)
    captured = (
        " A dimension that comes from a site that the energy captures (one of a plate, or a "
        "discrete one) must not be summed: pass that site beside x, as a value of the factor or in "
        "params, and the energy sees one element of it."
    ) * (value.numel() > rows)
    raise ValueError(
        f"expected {name} to return one number per configuration, shape ({rows},) or ({rows}, 1) "
        f"for {rows} configuration(s); got {tuple(shape)}. "
        f"Sum the energy over the dimensions of the event, and over no other.{captured}"
    )


def check_layers(energy: nn.Module) -> None:
    """Refuse layers that make an energy random or let configurations see one another.

    Raises:
        ValueError: dropout or batch normalisation in train mode, named.
    """
    for path, layer in energy.named_modules():
        reason = _layer_fault(layer)
        if reason:
            raise ValueError(
                _not_fixed(f"{type(layer).__name__} at {path or 'the top'!r}, {reason}")
            )


def _not_fixed(what: str) -> str:
    return (
        f"expected an energy that is a fixed function of one configuration, got {what}. "
        "Call .eval() on the net first, or leave the layer out."
    )


class RefuseTrainMode(TorchFunctionMode):
    """Refuse train-mode dropout and batch normalisation in code that holds no layers to look at."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        reason = None
        if func in _DROPOUTS and kwargs.get("training") and kwargs.get("p") != 0.0:
            reason = "in train mode, which draws random numbers"
        elif func is functional.batch_norm and kwargs.get("training"):
            reason = "in train mode, which mixes the configurations of a batch"
        if reason is not None:
            raise ValueError(_not_fixed(f"a call of {func.__name__} {reason}"))
        return func(*args, **kwargs)


def _layer_fault(layer: nn.Module) -> str | None:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        if layer.training:
            return "in train mode, which mixes the configurations of a batch"
        if layer.running_mean is None:
            return "which keeps no running statistics and so mixes the configurations of a batch"
    elif isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        if layer.training and layer.track_running_stats:
            return "in train mode, which changes the net at every call"
    elif layer.training:
        dropout = isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0
        inner = isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.dropout > 0
        if dropout or inner or isinstance(layer, nn.RReLU):
            return "in train mode, which draws random numbers"
    return None


def check_values(energies: Float[Tensor, "*batch"], x: Tensor, name: str = "the energy") -> None:
    """Refuse energies that are NaN, or -inf, at finite configurations.

    +inf is legal: it is density zero.

    Args:
        energies: the energies of `x`.
        x: the configurations [*batch, *event].
        name: what to call the energy in the error.

    Raises:
        ValueError: an energy is NaN or -inf; the first such configuration is shown.
    """
    flat = energies.detach().reshape(-1)
    bad = flat.isnan() | (flat == -math.inf)
    if not bool(bad.any()):
        return
    row = int(bad.nonzero()[0])
    point = x.detach().reshape(energies.numel(), -1)[row]
    shown = ", ".join(f"{value:.6g}" for value in point[:8].tolist())
    raise ValueError(
        f"expected real numbers from {name}, got {flat[row].item()} at {int(bad.sum())} of "
        f"{flat.numel()} configuration(s), first at x = [{shown}{', ...' * (point.numel() > 8)}]. "
        "Return inf where the density is zero, and check logarithms, roots and divisions there."
    )


def no_gradient_path(subject: str) -> str:
    """The sentence for an energy whose value does not depend on what it is a function of."""
    return (
        f"expected an energy that is differentiable in {subject}, got one with no gradient path to "
        f"{subject}. Compute it with torch operations on {subject} itself: no .detach(), .item(), "
        ".numpy(), torch.no_grad() or torch.tensor(...) on the way."
    )


def random_state(device: torch.device) -> Tensor:
    """The state of torch's random stream on a device."""
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state(device).cpu()


def random_energy() -> str:
    """The sentence for an energy that is not a function."""
    return (
        "expected an energy that gives the same number for the same x, got one that draws inside, "
        "or changes torch's random stream. Draw random numbers outside the energy and pass them as "
        "`params`; call .eval() on nets with dropout."
    )
