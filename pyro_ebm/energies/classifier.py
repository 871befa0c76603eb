"""A classifier read as an energy: E(x) = -logsumexp_y f(x)[y].

The logits f(x)[y] of a classifier fix p(y|x) only up to a shift that may depend on x. Taking
exp(f(x)[y]) for the unnormalised joint density of x and y uses that freedom: summing over labels
gives the density of x, dividing by it gives the softmax back.

Source: Grathwohl et al. (2020), Your classifier is secretly an energy based model and you should
treat it like one.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import constraints

from .base import Energy
from .checks import check_layers


class ClassifierEnergy(Energy):
    """E(x) = -logsumexp over labels of a classifier's logits.

    Args:
        classifier: a net from [N, *event] to logits [N, K], K >= 2.
        event_shape: the shape of one input.
        support: where the density lives.

    Raises:
        TypeError: the classifier is no `nn.Module`; logits that are not real numbers.
        ValueError: logits of another shape.
    """

    def __init__(
        self,
        classifier: object,
        *,
        event_shape: object,
        support: object = constraints.real,
    ) -> None:
        super().__init__(event_shape, support=support)
        if not isinstance(classifier, nn.Module):
            raise TypeError(
                f"expected the classifier to be an nn.Module, got {type(classifier).__name__}."
            )
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return -self._logits(x).logsumexp(-1)

    def joint(self, x: Tensor, label: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """E(x, y) = -f(x)[y], the energy of inputs with their labels.

        Args:
            x: inputs [*batch, *event].
            label: labels from 0 to K - 1.
        """
        split = x.dim() - len(self.event_shape)
        if split < 0 or x.shape[split:] != self.event_shape or x.shape[:split] != label.shape:
            raise ValueError(
                f"expected x of shape [*batch, {', '.join(map(str, self.event_shape))}] and one "
                f"label for each, got {tuple(x.shape)} and {tuple(label.shape)}."
            )
        check_layers(self)
        logits = self._logits(x.reshape(label.numel(), *self.event_shape))
        chosen = logits.gather(-1, label.reshape(-1, 1).long())
        return -chosen.reshape(label.shape)

    def _logits(self, x: Tensor) -> Tensor:
        logits = self.classifier(x)
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
            raise TypeError(f"expected the classifier to return real logits, got {kind}.")
        if logits.dim() != 2 or logits.shape[0] != x.shape[0] or logits.shape[1] < 2:
            raise ValueError(
                f"expected logits of shape ({x.shape[0]}, K) with K >= 2 labels, got "
                f"{tuple(logits.shape)}. For one logit z use labels (0, z): "
                "torch.cat([torch.zeros_like(z), z], -1)."
            )
        return logits
