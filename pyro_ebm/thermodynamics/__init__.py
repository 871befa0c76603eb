"""Statistical mechanics: an energy across temperatures."""

from .thermodynamics import thermodynamics as thermodynamics

__all__ = ["thermodynamics"]
