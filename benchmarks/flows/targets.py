"""Badly shaped targets with a known normaliser and moments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import pyro_ebm as ebm


class Bananas(ebm.Energy):
    """Independent curved bananas, two coordinates each."""

    def __init__(self, number: int) -> None:
        super().__init__((2 * number,))
        self.one = ebm.Banana(scale=2.0, curvature=3.0, width=0.3)

    def forward(self, x: Tensor) -> Tensor:
        """Their energies added up."""
        pairs = x.reshape(-1, 2)
        return self.one(pairs).reshape(len(x), -1).sum(-1)

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor:
        """That of one, times their number."""
        return self.event_shape[0] // 2 * self.one.log_normalizer(temperature)

    def mean(self) -> Tensor:
        """That of one, repeated."""
        return self.one.mean().repeat(self.event_shape[0] // 2)

    def variance(self) -> Tensor:
        """That of one, repeated."""
        return self.one.variance().repeat(self.event_shape[0] // 2)


FUNNEL, BANANAS, BANANA = "funnel, 10 dimensions", "three bananas", "narrow banana"

TARGETS: Mapping[str, ebm.Energy] = {
    FUNNEL: ebm.Funnel(10),
    BANANAS: Bananas(3),
    BANANA: ebm.Banana(scale=2.0, curvature=3.0, width=0.1),
}


def log_normalizer(energy: ebm.Energy) -> float:
    """log Z, which all of these know."""
    value = energy.log_normalizer()
    assert value is not None
    return float(torch.as_tensor(value))
