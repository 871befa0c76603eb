"""Normalisers: annealed importance sampling and its kin, with errors that can be believed."""

from .ais import AIS as AIS
from .draws_of_target import ExactDraws as ExactDraws
from .log_z import Backward as Backward
from .log_z import LogZ as LogZ
from .moves import HMCMoves as HMCMoves
from .moves import NUTSMoves as NUTSMoves
from .schedule import Given as Given
from .schedule import Linear as Linear
from .schedule import Optimized as Optimized
