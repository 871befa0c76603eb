"""Rows as a latent-variable model takes them: its dtype, its events, its support, and a mask."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from pyro_ebm.numeric import as_numbers

from .rows import as_tensor

if TYPE_CHECKING:
    from .latent_energy_model import LatentEnergyModel


def rows_for(model: LatentEnergyModel, data: Any) -> Tensor:
    """Rows [n, *event] in the dtype and on the device of the model.

    :param data: a tensor, an array, a data frame or lists of numbers, or a TensorDataset.
    :raises TypeError: no real numbers.
    :raises ValueError: rows that the decoder does not make, outside of the likelihood's support, or
        that are not finite.
    """
    return observed_rows(model, data, None)[0]


def observed_rows(
    model: LatentEnergyModel, data: Any, observed: Any
) -> tuple[Tensor, Tensor | None]:
    """Rows as of :func:`rows_for`, with the mask of what is known of them [n, *event].

    What is not known may be anything, NaN too; numbers within the support stand in for it.

    :param observed: booleans [*event] or [n, *event], a tensor or an array; None for all.
    """
    given = data.tensors[0] if isinstance(data, TensorDataset) else data
    decoder = next(iter(model.parameters()))
    rows = as_numbers("data", given).to(decoder.device, decoder.dtype)
    with torch.no_grad():
        # A copy in which nothing that is counted or normalised batch by batch moves.
        net = copy.deepcopy(model.decoder).eval()
        made: Any = model.likelihood(net(rows.new_zeros(1, model.latent_dim)))
    event = tuple((made.batch_shape + made.event_shape)[1:])
    if tuple(rows.shape[1:]) != event:
        raise ValueError(
            f"expected data [n, *{event}], rows such as the decoder makes, got shape "
            f"{tuple(rows.shape)}. Give the decoder as many outputs as a row has entries."
        )
    mask = None
    if observed is not None:
        mask = _mask(observed, rows)
        rows = torch.where(mask, rows, made.sample().reshape(event))
    rows = as_tensor("data", rows)
    inside = made.support.check(rows).reshape(len(rows), -1).all(1)
    if not bool(inside.all()):
        raise ValueError(
            f"expected data within {made.support}, the support of {type(model.likelihood).__name__}"
            f", got {int((~inside).sum())} of {len(rows)} rows outside of it, first row "
            f"{int((~inside).nonzero()[0])}. Take another likelihood, or turn the data into what "
            "it is of."
        )
    return rows, mask


def _mask(observed: Any, rows: Tensor) -> Tensor:
    """Which entries of rows are known.

    :raises TypeError: no booleans.
    :raises ValueError: booleans of another shape.
    """
    mask = as_numbers("observed", observed).to(rows.device)
    if mask.dtype != torch.bool:
        raise TypeError(
            f"expected observed to be a mask of booleans, got {mask.dtype}. Write observed.bool()."
        )
    if mask.shape not in (rows.shape, rows.shape[1:]):
        raise ValueError(
            f"expected observed of shape {tuple(rows.shape[1:])} or {tuple(rows.shape)}, got "
            f"{tuple(mask.shape)}."
        )
    return mask.expand(rows.shape)
