"""What makes an estimator of scikit-learn, without scikit-learn.

Its conventions are methods: parameters are the arguments of ``__init__``, kept as they were given;
what is learned ends in an underscore; tags say what an estimator takes. scikit-learn is imported
where it asks, and nowhere else.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch


class Estimator:
    """Parameters by name, for `clone`, `Pipeline` and searches; abstract."""

    def __init__(self) -> None:
        raise TypeError("Estimator is abstract: write a class with parameters of its own.")

    @classmethod
    def _names(cls) -> list[str]:
        found = inspect.signature(cls.__init__).parameters
        return [name for name in found if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, with those of estimators among them as ``name__parameter``."""
        found: dict[str, Any] = {}
        for name in self._names():
            value = getattr(self, name)
            found[name] = value
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                more = value.get_params(deep=True)
                found |= {f"{name}__{key}": each for key, each in more.items()}
        return found

    def set_params(self, **params: Any) -> Any:
        """Change parameters by name.

        :raises ValueError: a name that is none.
        """
        for key, value in params.items():
            name, _, rest = key.partition("__")
            if name not in self._names():
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {type(self).__name__}: expected one "
                    f"of {self._names()}."
                )
            if rest:
                getattr(self, name).set_params(**{rest: value})
            else:
                setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        usual = inspect.signature(type(self).__init__).parameters
        told = [
            f"{name}={getattr(self, name)!r}"
            for name in self._names()
            if getattr(self, name) is not usual[name].default
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="density_estimator",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(two_d_array=True, three_d_array=True, allow_nan=True),
            non_deterministic=False,
        )


def not_fitted(name: str) -> Exception:
    """What is raised before ``fit``: scikit-learn's error where it is there."""
    message = f"This {name} is not fitted yet: expected fit(X) first. Call fit before this method."
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        return ValueError(message)
    return NotFittedError(message)


def generator_of(random_state: Any) -> torch.Generator:
    """A random stream from a seed, from a generator of NumPy or torch, or, for None, from torch's
    global stream; on torch's default device but for a given one of torch.

    :raises TypeError: anything else.
    """
    if isinstance(random_state, torch.Generator):
        return random_state
    if random_state is None:
        seed = int(torch.randint(2**62, ()))
    elif isinstance(random_state, np.random.RandomState):
        seed = int(random_state.randint(2**31 - 1))
    elif isinstance(random_state, np.random.Generator):
        seed = int(random_state.integers(2**62))
    elif isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        seed = int(random_state)
    else:
        raise TypeError(
            "expected random_state to be None, a whole number or a generator of NumPy or torch, "
            f"got {type(random_state).__name__}."
        )
    return torch.Generator(torch.get_default_device()).manual_seed(seed)
