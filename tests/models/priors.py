"""The prior that posteriordb's models mean where they name none."""

import pyro
import pyro.distributions as dist


def flat(name, support, event_shape=()):
    """A site that is uniform over its whole support: improper where that is unbounded."""
    return pyro.sample(name, dist.ImproperUniform(support, (), event_shape))
