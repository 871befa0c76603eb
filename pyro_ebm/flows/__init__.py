"""Normalising flows (of zuko) as generative models, and as partners of samplers.

A flow is a bijection T from z ~ N(0, 1) to x, learned: it has an exact density and exact draws.
:func:`fit_flow` fits one to data, or to the draws of a run; :func:`fit_flow_to_target` to a density
itself. What comes out is a distribution in Pyro's sense: a base for annealing, noise for
contrastive estimation, the base of a tilted energy; and :func:`transported` sees a target through
it, so that NUTS moves where the density is round.
"""

from .distribution import FlowDistribution as FlowDistribution
from .fit import fit_flow as fit_flow
from .result import FittedFlow as FittedFlow
from .reverse import fit_flow_to_target as fit_flow_to_target
from .transport import transported as transported
