"""Values that enter a log density beside the position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor


class Side(NamedTuple):
    """Values beside the position that the kernel does not move.

    ``beta`` is an inverse temperature on the likelihood (everything but the priors of the latent
    sites); ``values`` replaces observed and discrete sites by name. Batched, both carry the chains
    on their first axis.
    """

    beta: Tensor | None = None
    values: Mapping[str, Tensor] = {}


NO_SIDE = Side()


def refuse_side_values(side: Side, replaceable: Sequence[str], *, latents: Iterable[str]) -> None:
    """Refuse side values for anything but observed and discrete sites.

    :raises ValueError: a name that is no such site.
    """
    wrong = [name for name in side.values if name not in replaceable]
    if not wrong:
        return
    message = (
        f"Side values replace observed and discrete sites, here {sorted(replaceable)}; got "
        f"{sorted(wrong)}."
    )
    if set(wrong) & set(latents):
        message += (
            " A continuous latent site has its coordinates in the position; to fix it, freeze "
            "pyro.condition(model, data=...) in place of the model."
        )
    raise ValueError(message)
