"""Normalisers: annealed importance sampling and its kin, with errors that can be believed."""

from .ais import AIS as AIS
from .bridge import bridge_sampling as bridge_sampling
from .compare import Comparison as Comparison
from .compare import compare_evidence as compare_evidence
from .draws_of_target import ExactDraws as ExactDraws
from .integration import ThermodynamicIntegration as ThermodynamicIntegration
from .log_z import Backward as Backward
from .log_z import LogZ as LogZ
from .moves import DiscreteMoves as DiscreteMoves
from .moves import HMCMoves as HMCMoves
from .moves import NUTSMoves as NUTSMoves
from .schedule import InverseTemperatures as InverseTemperatures
from .schedule import Linear as Linear
from .schedule import Optimized as Optimized
from .smc import SMC as SMC
from .smc import Adaptive as Adaptive
from .states import independent_sites as independent_sites
from .tempering import ParallelTempering as ParallelTempering
