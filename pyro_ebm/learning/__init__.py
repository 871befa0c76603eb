"""Learning energies from data: objectives, the loop that minimises them, and what it gives."""

from .annealed_likelihood import AnnealedLikelihood as AnnealedLikelihood
from .contrastive_divergence import ContrastiveDivergence as ContrastiveDivergence
from .denoising_score_matching import DenoisingScoreMatching as DenoisingScoreMatching
from .exact_likelihood import ExactLikelihood as ExactLikelihood
from .fit import DivergedWarning as DivergedWarning
from .fit import fit as fit
from .fit import resume_fit as resume_fit
from .noise_contrastive import NoiseContrastive as NoiseContrastive
from .objective import Objective as Objective
from .persistent_contrastive_divergence import (
    PersistentContrastiveDivergence as PersistentContrastiveDivergence,
)
from .pseudo_likelihood import PseudoLikelihood as PseudoLikelihood
from .score_matching import ScoreMatching as ScoreMatching
from .sliced_score_matching import SlicedScoreMatching as SlicedScoreMatching
from .trained import Trained as Trained

__all__ = [
    "AnnealedLikelihood",
    "ContrastiveDivergence",
    "DenoisingScoreMatching",
    "DivergedWarning",
    "ExactLikelihood",
    "NoiseContrastive",
    "Objective",
    "PersistentContrastiveDivergence",
    "PseudoLikelihood",
    "ScoreMatching",
    "SlicedScoreMatching",
    "Trained",
    "fit",
    "resume_fit",
]
