"""Names for the axes of results: the plates around a site give theirs, the event is numbered.

An axis of site ``y`` that no plate names is ``y_dim_i``, i its place in the shape of the site, as
ArviZ counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyro_ebm.target.layout import PlateFrame


class Labels:
    """The names of the axes of sites, ``axes``, and the sizes of their plates, ``plates``."""

    def __init__(self) -> None:
        self.axes: dict[str, tuple[str, ...]] = {}
        self.plates: dict[str, int] = {}

    def add(
        self,
        name: str,
        shape: Sequence[int],
        *,
        event_dim: int,
        plates: Sequence[PlateFrame],
    ) -> None:
        """Name the axes of one site of shape [*batch, *event] within its plates."""
        batch = len(shape) - event_dim
        axes = [f"{name}_dim_{i}" for i in range(len(shape))]
        for plate in plates:
            axis = batch + plate.dim
            if axis < 0 or shape[axis] != plate.size:
                continue
            # Of two plates of one name but different sizes only the first gives its name.
            if self.plates.setdefault(plate.name, plate.size) == plate.size:
                axes[axis] = plate.name
        self.axes[name] = tuple(axes)

    def override(self, dims: Mapping[str, Sequence[str]]) -> None:
        """Put the user's own names in.

        :param dims: per site as many names as it has axes, or as many as no plate has named.
        :raises ValueError: a site that is not there, or another number of names.
        """
        for name, given in dims.items():
            if name not in self.axes:
                raise ValueError(
                    f"dims= names {name!r}, but the variables are {sorted(self.axes)}."
                )
            known = self.axes[name]
            unnamed = [i for i, axis in enumerate(known) if axis not in self.plates]
            if len(given) == len(known):
                self.axes[name] = tuple(given)
            elif len(given) == len(unnamed):
                own = dict(zip(unnamed, given, strict=True))
                self.axes[name] = tuple(own.get(i, axis) for i, axis in enumerate(known))
            else:
                raise ValueError(
                    f"dims[{name!r}] must name all {len(known)} axes {known}, or the "
                    f"{len(unnamed)} that no plate names; got {tuple(given)}."
                )


def event_dim_in_plates(shape: Sequence[int], event_dim: int, plates: Sequence[PlateFrame]) -> int:
    """The event dimensions of a deterministic value.

    Without ``event_dim=`` Pyro calls all of the value its event. Where its last axes have the sizes
    of the plates around it they are those plates.
    """
    fits = all(-plate.dim <= len(shape) and shape[plate.dim] == plate.size for plate in plates)
    if plates and event_dim == len(shape) and fits:
        return len(shape) + min(plate.dim for plate in plates)
    return event_dim
