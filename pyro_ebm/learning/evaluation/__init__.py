"""How good is a learned energy? Measures of a density, and of samples beside data.

No measure sees all. The held-out log likelihood judges the density, and needs log Z. The kernel
Stein discrepancy judges samples by the energy alone, and is blind to the shares of far modes.
Discrepancy and classifiers compare samples with data, whatever made them; the shares of nearest
neighbours tell learned from memorised, and the coverage of modes what is missing.
"""

from .discrepancy import MeanDiscrepancy as MeanDiscrepancy
from .discrepancy import maximum_mean_discrepancy as maximum_mean_discrepancy
from .likelihood import HeldOutLikelihood as HeldOutLikelihood
from .likelihood import held_out_log_likelihood as held_out_log_likelihood
from .modes import ModeCoverage as ModeCoverage
from .modes import mode_coverage as mode_coverage
from .neighbours import NearestShare as NearestShare
from .neighbours import nearest_neighbour_share as nearest_neighbour_share
from .stein import SteinDiscrepancy as SteinDiscrepancy
from .stein import kernel_stein_discrepancy as kernel_stein_discrepancy
from .two_sample import TwoSampleAccuracy as TwoSampleAccuracy
from .two_sample import classifier_two_sample_test as classifier_two_sample_test

__all__ = [
    "HeldOutLikelihood",
    "MeanDiscrepancy",
    "ModeCoverage",
    "NearestShare",
    "SteinDiscrepancy",
    "TwoSampleAccuracy",
    "classifier_two_sample_test",
    "held_out_log_likelihood",
    "kernel_stein_discrepancy",
    "maximum_mean_discrepancy",
    "mode_coverage",
    "nearest_neighbour_share",
]
