"""Energies in Pyro models, sampled with many chains at once and judged in ArviZ."""

from .annealing import AIS as AIS
from .annealing import SMC as SMC
from .annealing import Adaptive as Adaptive
from .annealing import Comparison as Comparison
from .annealing import DiscreteMoves as DiscreteMoves
from .annealing import ExactDraws as ExactDraws
from .annealing import HMCMoves as HMCMoves
from .annealing import InverseTemperatures as InverseTemperatures
from .annealing import Linear as Linear
from .annealing import LogZ as LogZ
from .annealing import NUTSMoves as NUTSMoves
from .annealing import Optimized as Optimized
from .annealing import ParallelTempering as ParallelTempering
from .annealing import ThermodynamicIntegration as ThermodynamicIntegration
from .annealing import bridge_sampling as bridge_sampling
from .annealing import compare_evidence as compare_evidence
from .annealing import independent_sites as independent_sites
from .annealing_plots import plot_path as plot_path
from .annealing_plots import plot_weights as plot_weights
from .annealing_plots import plot_works as plot_works
from .calibration import Calibration as Calibration
from .calibration import calibrate as calibrate
from .calibration_plot import plot_calibration as plot_calibration
from .distribution import EnergyDistribution as EnergyDistribution
from .energies import RBM as RBM
from .energies import XY as XY
from .energies import Banana as Banana
from .energies import BoltzmannMachine as BoltzmannMachine
from .energies import ClassifierEnergy as ClassifierEnergy
from .energies import DiagonalGaussian as DiagonalGaussian
from .energies import DoubleWell as DoubleWell
from .energies import Energy as Energy
from .energies import Enumeration as Enumeration
from .energies import ExponentialRandomGraph as ExponentialRandomGraph
from .energies import Funnel as Funnel
from .energies import Gaussian as Gaussian
from .energies import GaussianMixtureEnergy as GaussianMixtureEnergy
from .energies import GaussianRBM as GaussianRBM
from .energies import Hopfield as Hopfield
from .energies import Ising as Ising
from .energies import LennardJones as LennardJones
from .energies import Mixture as Mixture
from .energies import MLPEnergy as MLPEnergy
from .energies import MuellerBrown as MuellerBrown
from .energies import Phi4 as Phi4
from .energies import Potts as Potts
from .energies import ProductOfExperts as ProductOfExperts
from .energies import Quartic as Quartic
from .energies import StudentT as StudentT
from .energies import Tilted as Tilted
from .energies import as_energy as as_energy
from .energies import blocks_of as blocks_of
from .energies import clamp as clamp
from .energies import exact_enumeration as exact_enumeration
from .energies import spin as spin
from .factor import energy_factor as energy_factor
from .flows import FittedFlow as FittedFlow
from .flows import FlowDistribution as FlowDistribution
from .flows import fit_flow as fit_flow
from .flows import fit_flow_to_target as fit_flow_to_target
from .flows import transported as transported
from .learning import AnnealedLikelihood as AnnealedLikelihood
from .learning import BernoulliLikelihood as BernoulliLikelihood
from .learning import CalibratedTemperature as CalibratedTemperature
from .learning import ContrastiveDivergence as ContrastiveDivergence
from .learning import DenoisingScoreMatching as DenoisingScoreMatching
from .learning import DivergedWarning as DivergedWarning
from .learning import EnergyModel as EnergyModel
from .learning import ExactLikelihood as ExactLikelihood
from .learning import FittedLatents as FittedLatents
from .learning import GaussianLikelihood as GaussianLikelihood
from .learning import Generated as Generated
from .learning import LatentEnergyModel as LatentEnergyModel
from .learning import Latents as Latents
from .learning import LearnedEnergy as LearnedEnergy
from .learning import LikelihoodBound as LikelihoodBound
from .learning import NoiseContrastive as NoiseContrastive
from .learning import Objective as Objective
from .learning import PersistentContrastiveDivergence as PersistentContrastiveDivergence
from .learning import PseudoLikelihood as PseudoLikelihood
from .learning import ScoreMatching as ScoreMatching
from .learning import SlicedScoreMatching as SlicedScoreMatching
from .learning import Trained as Trained
from .learning import UncertainSampleWarning as UncertainSampleWarning
from .learning import calibrate_temperature as calibrate_temperature
from .learning import classifier_two_sample_test as classifier_two_sample_test
from .learning import fit as fit
from .learning import held_out_log_likelihood as held_out_log_likelihood
from .learning import kernel_stein_discrepancy as kernel_stein_discrepancy
from .learning import maximum_mean_discrepancy as maximum_mean_discrepancy
from .learning import mode_coverage as mode_coverage
from .learning import nearest_neighbour_share as nearest_neighbour_share
from .learning import resume_fit as resume_fit
from .learning_curve_plot import plot_learning as plot_learning
from .learning_plots import plot_energies as plot_energies
from .learning_plots import plot_landscape as plot_landscape
from .mcmc.adaptation import Dense as Dense
from .mcmc.adaptation import Diagonal as Diagonal
from .mcmc.adaptation import LowRank as LowRank
from .mcmc.api import HMC as HMC
from .mcmc.api import MCMC as MCMC
from .mcmc.api import NUTS as NUTS
from .mcmc.api import ChEESHMC as ChEESHMC
from .mcmc.api import DiscreteLangevin as DiscreteLangevin
from .mcmc.api import Gibbs as Gibbs
from .mcmc.api import GibbsWithGradients as GibbsWithGradients
from .mcmc.api import Langevin as Langevin
from .mcmc.api import PathAuxiliary as PathAuxiliary
from .mcmc.api import SwendsenWang as SwendsenWang
from .mcmc.api import UntilESS as UntilESS
from .mcmc.api import auto_kernel as auto_kernel
from .mcmc.api import from_store as from_store
from .mcmc.api import sample as sample
from .minimization import BasinHopping as BasinHopping
from .minimization import Minima as Minima
from .minimization import SimulatedAnnealing as SimulatedAnnealing
from .minimization import minimize as minimize
from .mixtures import GaussianMixture as GaussianMixture
from .mixtures import MixturePosterior as MixturePosterior
from .mixtures import MixturePrior as MixturePrior
from .mixtures import Selection as Selection
from .mixtures_plot import plot_components as plot_components
from .mixtures_plot import plot_density as plot_density
from .samples_plot import plot_samples as plot_samples
from .target import Target as Target
from .thermodynamics import thermodynamics as thermodynamics
from .thermodynamics_plot import plot_thermodynamics as plot_thermodynamics

__all__ = [
    "AIS",
    "HMC",
    "MCMC",
    "NUTS",
    "RBM",
    "SMC",
    "XY",
    "Adaptive",
    "AnnealedLikelihood",
    "Banana",
    "BernoulliLikelihood",
    "BoltzmannMachine",
    "CalibratedTemperature",
    "Calibration",
    "ChEESHMC",
    "ClassifierEnergy",
    "Comparison",
    "ContrastiveDivergence",
    "DenoisingScoreMatching",
    "Dense",
    "Diagonal",
    "DiagonalGaussian",
    "DiscreteLangevin",
    "DiscreteMoves",
    "DivergedWarning",
    "DoubleWell",
    "Energy",
    "EnergyDistribution",
    "EnergyModel",
    "Enumeration",
    "ExactDraws",
    "ExactLikelihood",
    "ExponentialRandomGraph",
    "FittedFlow",
    "FittedLatents",
    "FlowDistribution",
    "Funnel",
    "Gaussian",
    "GaussianLikelihood",
    "GaussianMixture",
    "GaussianMixtureEnergy",
    "GaussianRBM",
    "Generated",
    "Gibbs",
    "GibbsWithGradients",
    "HMCMoves",
    "Hopfield",
    "InverseTemperatures",
    "Ising",
    "Langevin",
    "LatentEnergyModel",
    "Latents",
    "LearnedEnergy",
    "LennardJones",
    "LikelihoodBound",
    "Linear",
    "LogZ",
    "LowRank",
    "MLPEnergy",
    "Minima",
    "Mixture",
    "MixturePosterior",
    "MixturePrior",
    "MuellerBrown",
    "NUTSMoves",
    "NoiseContrastive",
    "Objective",
    "Optimized",
    "ParallelTempering",
    "PathAuxiliary",
    "PersistentContrastiveDivergence",
    "Phi4",
    "Potts",
    "ProductOfExperts",
    "PseudoLikelihood",
    "Quartic",
    "ScoreMatching",
    "Selection",
    "SlicedScoreMatching",
    "StudentT",
    "SwendsenWang",
    "Target",
    "ThermodynamicIntegration",
    "Tilted",
    "Trained",
    "UncertainSampleWarning",
    "as_energy",
    "auto_kernel",
    "blocks_of",
    "bridge_sampling",
    "calibrate",
    "calibrate_temperature",
    "clamp",
    "classifier_two_sample_test",
    "compare_evidence",
    "energy_factor",
    "exact_enumeration",
    "fit",
    "fit_flow",
    "fit_flow_to_target",
    "from_store",
    "held_out_log_likelihood",
    "independent_sites",
    "kernel_stein_discrepancy",
    "maximum_mean_discrepancy",
    "minimize",
    "mode_coverage",
    "nearest_neighbour_share",
    "plot_calibration",
    "plot_components",
    "plot_density",
    "plot_energies",
    "plot_landscape",
    "plot_learning",
    "plot_path",
    "plot_samples",
    "plot_thermodynamics",
    "plot_weights",
    "plot_works",
    "resume_fit",
    "spin",
    "thermodynamics",
    "transported",
]
