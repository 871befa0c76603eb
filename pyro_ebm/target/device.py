"""Where a model runs: on the device of its tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree


def on_its_device(model: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Callable:
    """The model, made to run where the first tensor is that is not on the CPU.

    Tensors are looked for in the arguments and in the parameters of the model or a module among the
    arguments. There numbers become tensors too, as in ``dist.Normal(0.0, 1.0)``, which would
    otherwise be on the default device. A model whose tensors are all on the CPU is not changed.
    """
    away = [
        tensor.device for tensor in _tensors(model, args, kwargs) if tensor.device.type != "cpu"
    ]
    if not away:
        return model
    device = away[0]

    @functools.wraps(model, updated=())
    def there(*args: Any, **kwargs: Any) -> Any:
        with device:
            return model(*args, **kwargs)

    return there


def _tensors(model: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    for leaf in (model, *pytree.tree_leaves((args, dict(kwargs)))):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, nn.Module):
            yield from leaf.parameters()
            yield from leaf.buffers()
