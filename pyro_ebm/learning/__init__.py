"""Learning energies from data, and judging what was learned."""

from .evaluation import classifier_two_sample_test as classifier_two_sample_test
from .evaluation import held_out_log_likelihood as held_out_log_likelihood
from .evaluation import kernel_stein_discrepancy as kernel_stein_discrepancy
from .evaluation import maximum_mean_discrepancy as maximum_mean_discrepancy
from .evaluation import mode_coverage as mode_coverage
from .evaluation import nearest_neighbour_share as nearest_neighbour_share

__all__ = [
    "classifier_two_sample_test",
    "held_out_log_likelihood",
    "kernel_stein_discrepancy",
    "maximum_mean_discrepancy",
    "mode_coverage",
    "nearest_neighbour_share",
]
