"""Learning energies from data: objectives, the loop that minimises them, and what it gives."""

from .annealed_likelihood import AnnealedLikelihood as AnnealedLikelihood
from .contrastive_divergence import ContrastiveDivergence as ContrastiveDivergence
from .denoising_score_matching import DenoisingScoreMatching as DenoisingScoreMatching
from .evaluation import classifier_two_sample_test as classifier_two_sample_test
from .evaluation import held_out_log_likelihood as held_out_log_likelihood
from .evaluation import kernel_stein_discrepancy as kernel_stein_discrepancy
from .evaluation import maximum_mean_discrepancy as maximum_mean_discrepancy
from .evaluation import mode_coverage as mode_coverage
from .evaluation import nearest_neighbour_share as nearest_neighbour_share
from .exact_likelihood import ExactLikelihood as ExactLikelihood
from .fit import fit as fit
from .fit import resume_fit as resume_fit
from .latent_energy_model import LatentEnergyModel as LatentEnergyModel
from .latent_fit import FittedLatents as FittedLatents
from .latents import Generated as Generated
from .latents import Latents as Latents
from .latents import LikelihoodBound as LikelihoodBound
from .learned_energy import LearnedEnergy as LearnedEnergy
from .likelihoods import BernoulliLikelihood as BernoulliLikelihood
from .likelihoods import GaussianLikelihood as GaussianLikelihood
from .model import EnergyModel as EnergyModel
from .model import UncertainSampleWarning as UncertainSampleWarning
from .noise_contrastive import NoiseContrastive as NoiseContrastive
from .objective import Objective as Objective
from .persistent_contrastive_divergence import (
    PersistentContrastiveDivergence as PersistentContrastiveDivergence,
)
from .pseudo_likelihood import PseudoLikelihood as PseudoLikelihood
from .run import DivergedWarning as DivergedWarning
from .score_matching import ScoreMatching as ScoreMatching
from .sliced_score_matching import SlicedScoreMatching as SlicedScoreMatching
from .temperature import CalibratedTemperature as CalibratedTemperature
from .temperature import calibrate_temperature as calibrate_temperature
from .trained import Trained as Trained

__all__ = [
    "AnnealedLikelihood",
    "BernoulliLikelihood",
    "CalibratedTemperature",
    "ContrastiveDivergence",
    "DenoisingScoreMatching",
    "DivergedWarning",
    "EnergyModel",
    "ExactLikelihood",
    "FittedLatents",
    "GaussianLikelihood",
    "Generated",
    "LatentEnergyModel",
    "Latents",
    "LearnedEnergy",
    "LikelihoodBound",
    "NoiseContrastive",
    "Objective",
    "PersistentContrastiveDivergence",
    "PseudoLikelihood",
    "ScoreMatching",
    "SlicedScoreMatching",
    "Trained",
    "UncertainSampleWarning",
    "calibrate_temperature",
    "classifier_two_sample_test",
    "fit",
    "held_out_log_likelihood",
    "kernel_stein_discrepancy",
    "maximum_mean_discrepancy",
    "mode_coverage",
    "nearest_neighbour_share",
    "resume_fit",
]
