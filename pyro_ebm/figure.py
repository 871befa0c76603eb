"""An empty picture; matplotlib is an extra, and is imported when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def empty_figure(*, width: float, height: float) -> Figure:
    """A Figure of that size in inches, of which no window knows.

    :raises ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib, which is not installed. Install it with "
            "pip install 'pyro_ebm[plot]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained", dpi=120)
