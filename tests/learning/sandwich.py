"""Where the minimum of a loss lies, and how far from the truth chance may put it.

The minimum of a mean of independent losses is, for many rows, normal around the truth with the
covariance H^-1 J H^-1 / n: H is the mean Hessian, J the covariance of the gradients of single rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Estimated(NamedTuple):
    off: Tensor
    covariance: Tensor

    @property
    def score(self) -> float:
        """(estimate - truth)' C^-1 (estimate - truth): chi squared with as many degrees."""
        return float(self.off @ torch.linalg.solve(self.covariance, self.off))


def estimated(objective, case, *, seed=0, num_rows=400) -> Estimated:
    """The minimum of the objective on all rows, sought from the truth on.

    :param num_rows: rows from which the covariance of the gradients is estimated.
    """
    energy, data = case
    free = list(energy.parameters())
    bound = objective.bind(energy)
    state = bound.begin(data, torch.Generator().manual_seed(seed))
    extra = list(bound.parameters(state))
    learned = [*free, *extra]
    truth = flat(free).clone()

    def loss(rows=data, at=seed):
        return bound.judge(rows, state, torch.Generator().manual_seed(at)).loss

    optimizer = torch.optim.LBFGS(
        learned,
        max_iter=400,
        tolerance_grad=1e-9,
        tolerance_change=1e-13,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    value = loss()
    slope = torch.cat(
        [g.reshape(-1) for g in torch.autograd.grad(value, learned, create_graph=True)]
    )
    assert float(slope.detach().abs().max()) < 1e-5
    curvature = torch.stack(
        [
            torch.cat([g.reshape(-1) for g in torch.autograd.grad(s, learned, retain_graph=True)])
            for s in slope
        ]
    )
    rows = []
    for number, row in enumerate(data[:num_rows]):
        gradients = torch.autograd.grad(loss(row[None], seed + 1 + number), learned)
        rows.append(torch.cat([g.reshape(-1) for g in gradients]))
    spread = torch.stack(rows).T.cov()
    # Lower triangles have coordinates that nothing depends on.
    moving = curvature.diagonal() != 0
    inverse = torch.linalg.inv(curvature[moving][:, moving])
    covariance = inverse @ spread[moving][:, moving] @ inverse / len(data)
    number = len(truth)
    of_energy = moving[:number]
    count = int(of_energy.sum())
    return Estimated((flat(free) - truth)[of_energy], covariance[:count, :count])


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors])
