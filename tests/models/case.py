"""A target whose log normaliser is known: what estimators of it are judged by."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pyro_ebm import EnergyDistribution, Target


class Case(NamedTuple):
    """A target, and what its log normaliser is.

    Attributes:
        name: what it is called in the catalogue.
        model: a Pyro model, or an energy as an EnergyDistribution that knows no normaliser.
        args: what the model is called with, data included.
        log_z: the log of its evidence, or of the integral of exp(-E/T).
        log_z_error: the standard error of `log_z`, 0 where it is exact.
        most_error: the error an estimate may report at default settings.
        base: where annealing starts if not where it chooses, a torch distribution.
    """

    name: str
    model: Callable[..., Any] | EnergyDistribution
    args: tuple[Any, ...]
    log_z: float
    log_z_error: float = 0.0
    most_error: float = 0.05
    base: Any = None

    @property
    def target(self) -> Target:
        """The flat log density whose integral is exp(log_z)."""
        if isinstance(self.model, EnergyDistribution):
            return Target.from_distribution(self.model)
        return Target.from_model(self.model, *self.args)
