"""Which dimensions of a value are plates, which are enumerated, and which are one event.

Inside plates a tensor has the shape [enumerated..., plates..., event...]. An energy factor is told
only the tensor. Everything right of the enclosing plates is the event; a plate that Pyro wraps
around a whole model (Predictive's draws, the ELBO's particles) is such a plate too, and between it
and the event may lie dimensions of size one, where the model's own plates would have been.

A tensor whose sizes match those of the plates is read as carrying them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.runtime import get_plates
from torch import Tensor

from pyro_ebm.energies import joint_sizes
from pyro_ebm.normalizers import enumerated_sites, shape_of

# Plates by which Pyro repeats a whole model: every copy has every factor once.
_REPLICAS = {
    "_num_predictive_samples",
    "num_particles_vectorized",
    "num_sleep_particles_vectorized",
}
# Enumerated dimensions that begin so far left of the plates are out of reach of events.
_FAR = 4


class Context(NamedTuple):
    """Where in a model a factor stands.

    ``plates`` are the enclosing vectorised ones by dimension; ``enumerated`` the sites that lie
    along a dimension of their own, with how many states each has.
    """

    plates: Mapping[int, CondIndepStackFrame]
    enumerated: Mapping[int, Mapping[str, Any]]
    states: Mapping[int, int]

    @property
    def depth(self) -> int:
        """How many dimensions the plates span, holes included."""
        return -min(self.plates, default=0)

    @property
    def hole(self) -> int:
        """How many dimensions right of all plates belong to no enclosing plate."""
        return -max(self.plates, default=0) - 1 if self.plates else 0


class Reading(NamedTuple):
    """One value, taken apart: ``value`` is [*batch, *event], with the batch aligned to plates."""

    value: Tensor
    batch: torch.Size
    event: torch.Size


def context() -> Context:
    """The plates and enumerated sites around the running statement."""
    plates = {frame.dim: frame for frame in get_plates() if frame.dim is not None}
    sites = enumerated_sites()
    states = {dim: site["value"].shape[dim - site["fn"].event_dim] for dim, site in sites.items()}
    return Context(plates, sites, states)


def read(
    value: Tensor, where: Context, name: str, *, event_shape: torch.Size | None = None
) -> Reading:
    """Take a value apart into the dimensions outside of the event, and the event.

    Args:
        value: a tensor [enumerated..., plates..., event...].
        where: the plates and enumerated sites around.
        name: the factor, for errors.
        event_shape: the event's shape, where it is known.

    Raises:
        ValueError: the value fits the plates in no way, or in two.
    """
    if event_shape is not None:
        return _read_known(value, where, name, event_shape)
    shape = shape_of(value)
    for site in where.enumerated.values():
        if site["value"] is value:
            return _split(value, shape[: len(shape) - site["fn"].event_dim], where)
    fitting = [
        shape[:length] for length in range(len(shape), -1, -1) if _fits(shape[:length], where)
    ]
    enumerated = [outer for outer in fitting if len(outer) > where.depth]
    # A vector as long as a site has states may also be an event; so may a second reading.
    if len(enumerated) > 1 or any(len(outer) == 1 for outer in enumerated):
        raise ValueError(_two_readings(value, name))
    reaches = bool(where.states) and value.dim() >= -max(where.states) > where.depth + _FAR
    if reaches and not enumerated:
        raise ValueError(
            f"At factor {name!r}: a value of shape {tuple(value.shape)} reaches the dimensions of "
            f"enumerated sites (from {max(where.states)} on), but does not fit them."
        )
    return _split(value, fitting[0], where)


def _read_known(value: Tensor, where: Context, name: str, event_shape: torch.Size) -> Reading:
    shape = shape_of(value)
    cut = len(shape) - len(event_shape)
    if cut >= 0 and shape[cut:] == event_shape:
        outer = shape[:cut]
        hole = outer[max(len(outer) - where.hole, 0) :]
        if _fits(outer, where) and all(size == 1 for size in hole):
            batch = outer[: len(outer) - len(hole)]
            return Reading(value.reshape(batch + event_shape), batch, event_shape)
    reading = read(value, where, name)
    if reading.event == event_shape:
        return reading
    around = ", ".join(f"{p.name!r} (dim {d}, size {p.size})" for d, p in where.plates.items())
    raise ValueError(
        f"At factor {name!r}: expected an event of shape {tuple(event_shape)} right of "
        f"{'the plates ' + around if around else 'no plate'}, got {tuple(reading.event)} from a "
        f"value of shape {tuple(value.shape)}. Several configurations belong in a plate."
    )


def _fits(outer: torch.Size, where: Context) -> bool:
    """Whether the dimensions left of an event can be plates and enumerated sites."""
    # Dimensions left of the plates are there only if the leftmost is an enumerated site.
    if len(outer) > where.depth and where.states.get(-len(outer)) != outer[0]:
        return False
    for index, size in enumerate(outer):
        dim = index - len(outer)
        if dim in where.plates:
            allowed = size in (1, where.plates[dim].size)
        elif -dim <= where.hole:
            allowed = True
        elif dim in where.states:
            allowed = size in (1, where.states[dim])
        else:
            allowed = size == 1
        if not allowed:
            return False
    return True


def _two_readings(value: Tensor, name: str) -> str:
    return (
        f"At factor {name!r}: a value of shape {tuple(value.shape)} can be read in two ways: "
        "some dimensions are states of an enumerated site, or parts of one event. Pass the "
        "enumerated sites themselves, which are recognised, and index inside the energy; let the "
        "energy capture constants; or give inference a larger max_plate_nesting, so that "
        "enumerated sites lie apart from events."
    )


def _split(value: Tensor, outer: torch.Size, where: Context) -> Reading:
    """Cut the value at the rightmost plate; ones between that plate and the event are dropped."""
    cut = max(len(outer) - where.hole, 0)
    batch, event = outer[:cut], shape_of(value)[cut:]
    drop = 0
    while drop < len(outer) - cut and event[drop] == 1:
        drop += 1
    event = event[drop:]
    return Reading(value.reshape(batch + event), batch, event)


def joint_batch(shapes: list[torch.Size], where: Context, name: str) -> torch.Size:
    """The batch that the values of a factor broadcast to, without the hole on its right.

    Args:
        shapes: the batches of the values.
        where: the plates and enumerated sites around.
        name: the factor, for errors.

    Raises:
        ValueError: the values do not fit together; a plate that no value carries would count the
            factor once for each of its elements; an enumerated site belongs to a plate that the
            factor stands outside of.
    """
    try:
        batch = joint_sizes(*shapes)
    except RuntimeError:
        raise ValueError(
            f"At factor {name!r}: expected values that broadcast outside of their events, got "
            f"{', '.join(str(tuple(shape)) for shape in shapes)}."
        ) from None
    carried = {index - len(batch) - where.hole for index, size in enumerate(batch) if size > 1}
    inside = {frame.name for frame in where.plates.values()}
    covered = set()
    for dim in carried & set(where.enumerated):
        site = where.enumerated[dim]
        own = {frame.name for frame in site["cond_indep_stack"] if frame.vectorized}
        if not own <= inside:
            raise ValueError(
                f"At factor {name!r}: the site {site['name']!r} is enumerated element by element "
                f"in the plate {', '.join(sorted(own - inside))}, but the energy looks across that "
                "plate. Move the factor into the plate if the energy is one value per element; "
                "else sample the site instead of enumerating it."
            )
        covered |= own
    for dim, frame in where.plates.items():
        if frame.name in _REPLICAS or frame.name in covered:
            continue
        if frame.size > 1 and dim not in carried:
            raise ValueError(
                f"At factor {name!r}: inside the plate {frame.name!r} of size {frame.size} the "
                "energy has one value for all elements, because none of its values carries the "
                f"plate; it would count {frame.size} times. Move the factor out of the plate to "
                "count it once, or pass values that have one element per element of the plate."
            )
    return batch
