"""Energies in Pyro models, sampled with many chains at once and judged in ArviZ."""

from .annealing import AIS as AIS
from .annealing import ExactDraws as ExactDraws
from .annealing import HMCMoves as HMCMoves
from .annealing import Linear as Linear
from .annealing import LogZ as LogZ
from .annealing import NUTSMoves as NUTSMoves
from .annealing import Optimized as Optimized
from .calibration import Calibration as Calibration
from .calibration import calibrate as calibrate
from .calibration_plot import plot_calibration as plot_calibration
from .distribution import EnergyDistribution as EnergyDistribution
from .energies import Banana as Banana
from .energies import ClassifierEnergy as ClassifierEnergy
from .energies import DiagonalGaussian as DiagonalGaussian
from .energies import DoubleWell as DoubleWell
from .energies import Energy as Energy
from .energies import Funnel as Funnel
from .energies import Gaussian as Gaussian
from .energies import GaussianMixtureEnergy as GaussianMixtureEnergy
from .energies import Mixture as Mixture
from .energies import MLPEnergy as MLPEnergy
from .energies import MuellerBrown as MuellerBrown
from .energies import Phi4 as Phi4
from .energies import ProductOfExperts as ProductOfExperts
from .energies import Quartic as Quartic
from .energies import StudentT as StudentT
from .energies import Tilted as Tilted
from .energies import as_energy as as_energy
from .energies import clamp as clamp
from .factor import energy_factor as energy_factor
from .mcmc.adaptation import Dense as Dense
from .mcmc.adaptation import Diagonal as Diagonal
from .mcmc.adaptation import LowRank as LowRank
from .mcmc.api import HMC as HMC
from .mcmc.api import MCMC as MCMC
from .mcmc.api import NUTS as NUTS
from .minimization import Minima as Minima
from .minimization import minimize as minimize
from .target import Target as Target

__all__ = [
    "AIS",
    "HMC",
    "MCMC",
    "NUTS",
    "Banana",
    "Calibration",
    "ClassifierEnergy",
    "Dense",
    "Diagonal",
    "DiagonalGaussian",
    "DoubleWell",
    "Energy",
    "EnergyDistribution",
    "ExactDraws",
    "Funnel",
    "Gaussian",
    "GaussianMixtureEnergy",
    "HMCMoves",
    "Linear",
    "LogZ",
    "LowRank",
    "MLPEnergy",
    "Minima",
    "Mixture",
    "MuellerBrown",
    "NUTSMoves",
    "Optimized",
    "Phi4",
    "ProductOfExperts",
    "Quartic",
    "StudentT",
    "Target",
    "Tilted",
    "as_energy",
    "calibrate",
    "clamp",
    "energy_factor",
    "minimize",
    "plot_calibration",
]
