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
from .energies import CommitteeMachine as CommitteeMachine
from .energies import CrossEntropy as CrossEntropy
from .energies import DiagonalGaussian as DiagonalGaussian
from .energies import DoubleWell as DoubleWell
from .energies import Energy as Energy
from .energies import Enumeration as Enumeration
from .energies import Examples as Examples
from .energies import ExponentialRandomGraph as ExponentialRandomGraph
from .energies import Funnel as Funnel
from .energies import Gaussian as Gaussian
from .energies import GaussianMixtureEnergy as GaussianMixtureEnergy
from .energies import GaussianRBM as GaussianRBM
from .energies import Hinge as Hinge
from .energies import Hopfield as Hopfield
from .energies import Ising as Ising
from .energies import LennardJones as LennardJones
from .energies import Logistic as Logistic
from .energies import Mixture as Mixture
from .energies import MLPEnergy as MLPEnergy
from .energies import MuellerBrown as MuellerBrown
from .energies import Perceptron as Perceptron
from .energies import PerceptronLoss as PerceptronLoss
from .energies import Phi4 as Phi4
from .energies import Potts as Potts
from .energies import ProductOfExperts as ProductOfExperts
from .energies import Quartic as Quartic
from .energies import SquaredError as SquaredError
from .energies import StudentT as StudentT
from .energies import Tilted as Tilted
from .energies import TrainingEnergy as TrainingEnergy
from .energies import UniformSpins as UniformSpins
from .energies import ZeroOne as ZeroOne
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
from .mcmc.api import EllipticalSlice as EllipticalSlice
from .mcmc.api import Exchange as Exchange
from .mcmc.api import Gibbs as Gibbs
from .mcmc.api import GibbsWithGradients as GibbsWithGradients
from .mcmc.api import Langevin as Langevin
from .mcmc.api import PathAuxiliary as PathAuxiliary
from .mcmc.api import SwendsenWang as SwendsenWang
from .mcmc.api import UntilESS as UntilESS
from .mcmc.api import auto_kernel as auto_kernel
from .mcmc.api import diagnose_data as diagnose_data
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
from .rules import Annealed as Annealed
from .rules import BinaryTeacher as BinaryTeacher
from .rules import Planted as Planted
from .rules import RealTeacher as RealTeacher
from .rules import SingleWeightMoves as SingleWeightMoves
from .rules import SliceMoves as SliceMoves
from .rules import binary_perceptron_theory as binary_perceptron_theory
from .rules import gibbs_learning as gibbs_learning
from .rules import high_temperature_theory as high_temperature_theory
from .rules import learning_curve as learning_curve
from .rules import linear_perceptron_theory as linear_perceptron_theory
from .rules import perceptron_theory as perceptron_theory
from .rules_plot import plot_learning_curves as plot_learning_curves
from .samples_plot import plot_samples as plot_samples
from .shards import SerialExecutor as SerialExecutor
from .shards import WorkerProcesses as WorkerProcesses
from .surfaces import CountedSurface as CountedSurface
from .surfaces import ListedLogNormalizer as ListedLogNormalizer
from .surfaces import LogNormalizerSurface as LogNormalizerSurface
from .surfaces import listed_log_normalizer as listed_log_normalizer
from .surfaces import log_normalizer_surface as log_normalizer_surface
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
    "Annealed",
    "AnnealedLikelihood",
    "Banana",
    "BasinHopping",
    "BernoulliLikelihood",
    "BinaryTeacher",
    "BoltzmannMachine",
    "CalibratedTemperature",
    "Calibration",
    "ChEESHMC",
    "ClassifierEnergy",
    "CommitteeMachine",
    "Comparison",
    "ContrastiveDivergence",
    "CountedSurface",
    "CrossEntropy",
    "DenoisingScoreMatching",
    "Dense",
    "Diagonal",
    "DiagonalGaussian",
    "DiscreteLangevin",
    "DiscreteMoves",
    "DivergedWarning",
    "DoubleWell",
    "EllipticalSlice",
    "Energy",
    "EnergyDistribution",
    "EnergyModel",
    "Enumeration",
    "ExactDraws",
    "ExactLikelihood",
    "Examples",
    "Exchange",
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
    "Hinge",
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
    "ListedLogNormalizer",
    "LogNormalizerSurface",
    "LogZ",
    "Logistic",
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
    "Perceptron",
    "PerceptronLoss",
    "PersistentContrastiveDivergence",
    "Phi4",
    "Planted",
    "Potts",
    "ProductOfExperts",
    "PseudoLikelihood",
    "Quartic",
    "RealTeacher",
    "ScoreMatching",
    "Selection",
    "SerialExecutor",
    "SimulatedAnnealing",
    "SingleWeightMoves",
    "SliceMoves",
    "SlicedScoreMatching",
    "SquaredError",
    "StudentT",
    "SwendsenWang",
    "Target",
    "ThermodynamicIntegration",
    "Tilted",
    "Trained",
    "TrainingEnergy",
    "UncertainSampleWarning",
    "UniformSpins",
    "UntilESS",
    "WorkerProcesses",
    "ZeroOne",
    "as_energy",
    "auto_kernel",
    "binary_perceptron_theory",
    "blocks_of",
    "bridge_sampling",
    "calibrate",
    "calibrate_temperature",
    "clamp",
    "classifier_two_sample_test",
    "compare_evidence",
    "diagnose_data",
    "energy_factor",
    "exact_enumeration",
    "fit",
    "fit_flow",
    "fit_flow_to_target",
    "from_store",
    "gibbs_learning",
    "held_out_log_likelihood",
    "high_temperature_theory",
    "independent_sites",
    "kernel_stein_discrepancy",
    "learning_curve",
    "linear_perceptron_theory",
    "listed_log_normalizer",
    "log_normalizer_surface",
    "maximum_mean_discrepancy",
    "minimize",
    "mode_coverage",
    "nearest_neighbour_share",
    "perceptron_theory",
    "plot_calibration",
    "plot_components",
    "plot_density",
    "plot_energies",
    "plot_landscape",
    "plot_learning",
    "plot_learning_curves",
    "plot_path",
    "plot_samples",
    "plot_thermodynamics",
    "plot_weights",
    "plot_works",
    "resume_fit",
    "sample",
    "spin",
    "thermodynamics",
    "transported",
]
