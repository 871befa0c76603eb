"""Real posteriors with known answers, as Pyro users write them, for tests and benchmarks."""

from .catalogue import POSTERIORDB as POSTERIORDB
from .catalogue import Posterior as Posterior
from .catalogue import load as load
