"""Elliptical slice sampling as a kernel for MCMC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide.initialization import init_to_uniform
from torch.distributions import Distribution

from pyro_ebm.energies import Tilted, gaussian_parts
from pyro_ebm.target import Target

from ..elliptical_slice import elliptical_slice
from ..kernel import Kernel
from .kernels import _PyroKernel


class EllipticalSlice(_PyroKernel):
    """Elliptical slice sampling: no gradient, no step size, for what lies beside a Gaussian.

    Every Gaussian is right; one near to what is sampled, as a prior is whose data say little, makes
    long moves. Few data and many weights suit it, energies with jumps or plateaus too; where there
    is a gradient and much is known, NUTS is better. A step evaluates the density once; a transition
    takes some steps, and warm-up tunes nothing.

    :param model: an Energy, an EnergyDistribution, a Pyro model or a Target; None for the negative
        phase of learning is not offered.
    :param prior: the Gaussian over all unconstrained coordinates, ``Normal(...).to_event(1)`` or
        ``MultivariateNormal(...)``; the base of a :class:`.Tilted` energy, which
        ``TrainingEnergy.at(T)`` is, unless given.
    :raises TypeError: a prior that is no Gaussian, or none.
    :raises ValueError: a prior of another size than the model.

    Source: Murray, Adams, MacKay (2010), Elliptical slice sampling.
    """

    def __init__(
        self,
        model: Any,
        *,
        prior: Distribution | None = None,
        jit_compile: bool | str = "auto",
        init_strategy: Callable = init_to_uniform,
    ) -> None:
        super().__init__(
            model,
            None,
            1.0,
            adapt_step_size=False,
            adapt_mass_matrix=False,
            full_mass=False,
            transforms=None,
            max_plate_nesting=None,
            jit_compile=jit_compile,
            target_accept_prob=0.8,
            init_strategy=init_strategy,
        )
        if prior is None:
            prior = _base_of(model)
        self.mean, self.factor = gaussian_parts(prior)

    def target(self, args: tuple, kwargs: Any, initial_params: Any) -> Target:
        """Freeze the model, and look whether the prior is one of its coordinates."""
        target = super().target(args, kwargs, initial_params)
        if target.dim != len(self.mean):
            raise ValueError(
                f"expected a prior over the {target.dim} unconstrained coordinates of the model, "
                f"got one over {len(self.mean)}."
            )
        return target

    def kernel(self) -> Kernel:
        """The pure kernel."""
        return elliptical_slice(self.mean, self.factor)


def _base_of(model: Any) -> Any:
    energy = getattr(model, "energy", model) if hasattr(model, "log_prob") else model
    if isinstance(energy, Tilted):
        if float(torch.as_tensor(getattr(model, "temperature", 1.0))) != 1.0:
            raise ValueError(
                "expected a tilted energy at temperature 1, as a temperature changes its base too. "
                "Give prior=, or take TrainingEnergy.at(T)."
            )
        return energy.base
    raise TypeError(
        "expected prior=, a Gaussian over the unconstrained coordinates of "
        f"{type(model).__name__}: it is known of Tilted energies alone."
    )
