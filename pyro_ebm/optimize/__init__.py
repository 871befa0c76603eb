"""Minima: batched L-BFGS from many starts, and which of its ends are the same minimum."""

from .distinct import DistinctMinima as DistinctMinima
from .distinct import distinct_minima as distinct_minima
from .lbfgs import Optimum as Optimum
from .lbfgs import lbfgs as lbfgs

__all__ = ["DistinctMinima", "Optimum", "distinct_minima", "lbfgs"]
