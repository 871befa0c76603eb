"""A Pyro model, a distribution or an energy, frozen into one flat and batched log density."""

from .initial import init_positions as init_positions
from .layout import Site as Site
from .side import Side as Side
from .target import Target as Target
from .threads import worthwhile_threads as worthwhile_threads

__all__ = ["Side", "Site", "Target", "init_positions", "worthwhile_threads"]
