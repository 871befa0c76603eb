"""Gaussian mixtures, and how many components they have."""

from .mixture import GaussianMixture as GaussianMixture
from .prior import MixturePrior as MixturePrior
from .result import Band as Band
from .result import MixturePosterior as MixturePosterior
from .selection import Selection as Selection
