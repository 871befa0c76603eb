"""Draws of a mixture whose components keep their names.

The posterior is the same under every order of the components, so that a component's own mean,
averaged over draws, is that of the whole mixture. What may be averaged is found by naming the
components of every draw anew: in the order that agrees best with the average membership Q of each
row, so that

    sum_ik P_ik log(P_ik / Q_ik)

is least, P the membership probabilities of the draw; and Q is averaged again, until no name
changes.

Source: Stephens (2000), Dealing with label switching in mixture models.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ITERATIONS = 50
_FLOOR = 1e-12


def orders(probabilities: Tensor, pivot: int) -> Tensor:
    """For every draw, which of its components comes first, second, ...: [draws, K].

    :param probabilities: [draws, rows, K] of each row's membership.
    :param pivot: the draw whose names the first round goes by.
    """
    average = probabilities[pivot]
    number, _, components = probabilities.shape
    found = torch.arange(components, device=probabilities.device).expand(number, components)
    if components == 1:
        return found
    for _ in range(_ITERATIONS):
        agreement = probabilities.mT @ average.clamp(min=_FLOOR).log()
        named = torch.from_numpy(np.stack([_best(each) for each in agreement.numpy()]))
        index = named[:, None].expand_as(probabilities)
        average = probabilities.gather(2, index).mean(0)
        if bool((named == found).all()):
            break
        found = named
    return found


def _best(agreement: np.ndarray) -> np.ndarray:
    """For each name the component of the draw that it goes to."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(agreement.T, maximize=True)[1]
