"""What goes to another process, as bytes.

Models are functions of a notebook, closures, modules. ``pickle`` knows functions by name alone;
``cloudpickle``, which Dask brings along, takes the rest by value.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any


def packed(function: Callable, *args: Any) -> bytes:
    """A call as bytes.

    :raises TypeError: something in it cannot be sent, saying what helps.
    """
    try:
        import cloudpickle as pickler

        helps = "Make it where it is needed, inside of the model, or leave it out"
    except ImportError:
        pickler = pickle
        helps = (
            "pip install 'pyro_ebm[dask]' brings cloudpickle, which sends functions by value; or "
            "define the model at the top of a module that workers can import"
        )
    try:
        return pickler.dumps((function, args))
    except Exception as error:  # whatever an object's own way to be pickled raises
        raise TypeError(
            f"What a worker is to run cannot be sent to it: {type(error).__name__}: {error}. "
            f"{helps}; or run in this process, with executor=SerialExecutor()."
        ) from error


def called(call: bytes) -> Any:
    """What the call in the bytes gives."""
    function, args = pickle.loads(call)
    return function(*args)
