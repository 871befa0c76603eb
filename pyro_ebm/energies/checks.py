"""What an energy must satisfy, each as a function with an error that says what to do.

Checks of shapes and dtypes are cheap and run at every call. Checks of values look at numbers, which
do not exist while torch traces or vectorises: `values_visible` tells, and the layers above call
`check_values`, `check_gradient_path` and `check_deterministic` once, eagerly, on a few points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode


def values_visible() -> bool:
    """Whether tensors hold numbers now: no vmap or grad level, no tracing, no compilation."""
    return (
        not torch.compiler.is_compiling()
        and peek_interpreter_stack() is None
        and _get_current_dispatch_mode() is None
        and not torch._C._is_tracing()
    )


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
    if value.shape == (rows,):
        return value
    if value.shape == (rows, 1):
        return value.squeeze(-1)
    raise ValueError(
        f"expected {name} to return one number per configuration, shape ({rows},) or ({rows}, 1) "
        f"for {rows} configuration(s); got {tuple(value.shape)}. "
        "Sum the energy over the dimensions of the event, and over no other."
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
                f"expected an energy that is a fixed function of one configuration, got "
                f"{type(layer).__name__} at {path or 'the top'!r}, {reason}. "
                "Call .eval() on the net first, or leave the layer out."
            )


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


def check_gradient_path(energy: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Refuse an energy whose value does not depend on x as far as autograd can see.

    Raises:
        ValueError: no gradient path leads from the energy to x.
    """
    with torch.enable_grad():
        position = x.detach().clone().requires_grad_(True)
        total = energy(position).sum()
        if total.requires_grad:
            (gradient,) = torch.autograd.grad(total, position, allow_unused=True)
            if gradient is not None:
                return
    raise ValueError(
        f"expected an energy that is differentiable in x, got one with no gradient path to x "
        f"(x of shape {tuple(x.shape)}, {x.dtype}). Compute it with torch operations on x itself: "
        "no .detach(), .item(), .numpy(), torch.no_grad() or torch.tensor(...) on the way."
    )


def check_deterministic(energy: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Refuse an energy that draws random numbers or changes from call to call.

    Raises:
        ValueError: a random stream moved, or two calls at the same x differ.
    """
    with torch.no_grad():
        before = _random_state(x.device)
        first = energy(x)
        moved = not torch.equal(before, _random_state(x.device))
        second = energy(x)
    if moved or not torch.allclose(first, second, equal_nan=True):
        raise ValueError(random_energy_message("its random stream moved" if moved else None))


def _random_state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state(device).cpu()


def random_energy_message(cause: str | None) -> str:
    """The sentence for an energy that is not a function."""
    got = cause or "two calls at the same x differ"
    return (
        f"expected an energy that gives the same number for the same x, got one that does not "
        f"({got}). Draw random numbers outside the energy and pass them as `params`; "
        "call .eval() on nets with dropout."
    )
