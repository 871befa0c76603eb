"""An estimator of learned energies, after scikit-learn's conventions."""

from .energy_model import EnergyModel as EnergyModel
from .row_density import UncertainSampleWarning as UncertainSampleWarning

__all__ = ["EnergyModel", "UncertainSampleWarning"]
