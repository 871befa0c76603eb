"""Simulation-based calibration: is the posterior right, on average over the prior?"""

from .calibrate import calibrate as calibrate
from .result import Calibration as Calibration
from .uniformity import Uniformity as Uniformity

__all__ = ["Calibration", "Uniformity", "calibrate"]
