"""The catalogue of targets whose log normaliser is known, for tests and benchmarks.

    torch.set_default_dtype(torch.float64)
    case = normaliser("funnel_10d")

A case is made in torch's default dtype, which has to stay while the case is in use.
"""

from .case import Case as Case
from .closed_forms import CLOSED_FORMS
from .evidences import EVIDENCES
from .lattices import LATTICES, lattice

NORMALISERS = {**CLOSED_FORMS, **EVIDENCES}


def normaliser(name: str) -> Case:
    """The case of that name."""
    cases = {**NORMALISERS, **dict.fromkeys(LATTICES, lattice)}
    if name not in cases:
        raise ValueError(f"Expected one of {[*cases]}, got {name!r}.")
    return cases[name](name)
