"""The permanent of a positive matrix: the sum over all orders of products, one of each row.

    perm A = sum over orders pi of prod_c A[c, pi(c)]

Row by row, f(S) is the permanent of the first |S| rows and the columns S,

    f(S) = sum over k in S of f(S without k) A[|S| - 1, k],

2^K sets of K terms in place of K! orders, none of them negative, so that nothing cancels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_permanent(log_matrix: Tensor) -> Tensor:
    """log perm of exp(log_matrix) [K, K, *batch], over the first two axes: [*batch].

    What is too small for numbers beside the largest of its row and column counts as the smallest
    number there is.
    """
    size = len(log_matrix)
    rows = log_matrix.amax(1, keepdim=True)
    columns = (log_matrix - rows).amax(0, keepdim=True)
    matrix = (log_matrix - rows - columns).exp()
    found = {0: torch.ones_like(matrix[0, 0])}
    for row in range(size):
        following: dict[int, Tensor] = {}
        for chosen, value in found.items():
            for column in range(size):
                bit = 1 << column
                if chosen & bit:
                    continue
                if chosen | bit in following:
                    following[chosen | bit].addcmul_(value, matrix[row, column])
                else:
                    following[chosen | bit] = value * matrix[row, column]
        found = following
    (permanent,) = found.values()
    tiny = torch.finfo(permanent.dtype).tiny
    return permanent.clamp(min=tiny).log() + rows.sum(0)[0] + columns.sum(1)[0]
