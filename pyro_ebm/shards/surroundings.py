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
# Of the numbers that make up a key.
_KEY_BITS = 20


class Surroundings(NamedTuple):
    """The default dtype and the state of the param store."""

    dtype: torch.dtype
    params: Any

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process now."""
        return cls(torch.get_default_dtype(), pyro.get_param_store().get_state())


def seed_of(seed: int, *key: int) -> int:
    """The seed of a shard, 63 bits, by its number or by a few numbers below 2^20.

    torch's generator on the CPU looks at the low 32 bits alone. Shards of one run differ in them,
    up to 2^32 shards; those of different runs are independent.
    """
    place = 0
    for number in key:
        place = (place << _KEY_BITS) + number
    before, after = _words(seed, (), 2)
    (high,) = _words(seed, key, 1)
    low = _mixed(before + place) ^ after
    return (high >> 1 << 32) + low


def _words(seed: int, key: tuple[int, ...], number: int) -> list[int]:
    """Random words of 32 bits."""
    return np.random.SeedSequence(seed, spawn_key=key).generate_state(number).tolist()


def _mixed(word: int) -> int:
    """Another word of 32 bits for each; neighbours become as different as any two words.

    Source: Appleby (2011), MurmurHash3, its finalizer.
    """
    word &= 0xFFFFFFFF
    word = (word ^ word >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    word = (word ^ word >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return word ^ word >> 16


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
