"""The lowest energies of an energy or a model: inference without sampling."""

from .minimize import minimize as minimize
from .result import Minima as Minima
from .strategies import BasinHopping as BasinHopping
from .strategies import SimulatedAnnealing as SimulatedAnnealing

__all__ = ["BasinHopping", "Minima", "SimulatedAnnealing", "minimize"]
