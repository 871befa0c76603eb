"""The statistical mechanics of learning a rule from examples: teachers, students, curves."""

from .curve import gibbs_learning as gibbs_learning
from .curve import learning_curve as learning_curve
from .options import Annealed as Annealed
from .options import Planted as Planted
from .options import SingleWeightMoves as SingleWeightMoves
from .options import SliceMoves as SliceMoves
from .teacher import BinaryTeacher as BinaryTeacher
from .teacher import Lessons as Lessons
from .teacher import RealTeacher as RealTeacher
from .teacher import Teacher as Teacher
from .theory import binary_perceptron_theory as binary_perceptron_theory
from .theory import high_temperature_theory as high_temperature_theory
from .theory import linear_perceptron_theory as linear_perceptron_theory
from .theory import perceptron_theory as perceptron_theory
