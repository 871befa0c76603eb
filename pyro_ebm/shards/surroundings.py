"""What a model finds around it, the same in every worker: parameters, types, random numbers.

A worker has its own default dtype and an empty param store, and a model that is run in it would
silently be another one. And it may have any number of threads, of which the order of sums depends.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro.util import get_rng_state, set_rng_state

# Pyro's stack of handlers, the default dtype and the random state belong to the whole process.
_ONE_AT_A_TIME = threading.RLock()


class Surroundings(NamedTuple):
    """The default dtype and the state of the param store."""

    dtype: torch.dtype
    params: Any

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process now."""
        return cls(torch.get_default_dtype(), pyro.get_param_store().get_state())


def seed_of(seed: int, *key: int) -> int:
    """The seed of a shard, 63 bits: independent streams for different runs and numbers."""
    state = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@contextlib.contextmanager
def within(surroundings: Surroundings, seed: int) -> Iterator[None]:
    """One thread and these surroundings, with fresh random states; all is put back afterwards.

    Threads of one process wait for each other.
    """
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        stack.callback(set_rng_state, get_rng_state())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        params: Any = {**surroundings.params}
        stack.enter_context(pyro.get_param_store().scope(params))
        torch.set_num_threads(1)
        torch.set_default_dtype(surroundings.dtype)
        pyro.set_rng_seed(seed % 2**32)
        # NumPy's takes 32 bits only.
        torch.manual_seed(seed)
        yield
