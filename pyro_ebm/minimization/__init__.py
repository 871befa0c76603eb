"""The lowest energies of an energy or a model: inference without sampling."""

from .minimize import minimize as minimize
from .result import Minima as Minima

__all__ = ["Minima", "minimize"]
