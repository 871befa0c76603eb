"""Forward draws of a model: what it predicts given posterior draws, or from its prior alone.

The model runs as it is written, once per draw; all draws go through together under vmap where the
model allows it, one after the other where not. Nothing has to be written with a batch in mind.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_factor, site_is_subsample
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pyro_ebm.target.discrete_draws import draw_discrete
from pyro_ebm.target.program import ModelProgram

from .record import RunRecord

# Numbers held at once.
_NUMBERS = 2**22
# More draws than these take a while one by one.
_MANY = 1000


def predict(record: RunRecord, /, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
    """Posterior predictive draws, [chain, draw, *shape] by site.

    Every latent site takes its posterior draws; observed sites are drawn, whether the arguments
    hold data for them or not, and deterministic sites are computed anew. Random numbers are
    torch's.

    :param args: new arguments of the model, as in ``model(*args, **kwargs)``.
    :raises ValueError: the run was no model's or did not keep all of its sites, or a latent site
        has another shape under the new arguments.
    """
    program = model_of(record)
    return forward_draws(program.user_model, args, kwargs, given=latent_draws(record))


def latent_draws(record: RunRecord) -> dict[str, Tensor]:
    """The latent sites of a run, discrete ones drawn back, [chain, draw, *shape] by site."""
    if not record.keeps_all:
        raise ValueError(
            f"Predictions need every latent site, but only {record.sites} were kept. Run again "
            "without sites= (save_params=)."
        )
    values = record.target.evaluate(record.positions).latents
    return {**values, **draw_discrete(record.target, record.positions)}


def forward_draws(
    model: Callable,
    args: tuple,
    kwargs: Mapping[str, Any],
    *,
    given: Mapping[str, Tensor],
    num_draws: int | None = None,
) -> dict[str, Tensor]:
    """Run a model forwards once per draw: all sites that are not given, by site.

    :param given: values of latent sites, [chain, draw, *shape].
    :param num_draws: without given sites, how many; they come as one chain.
    """
    batch = torch.Size((1, num_draws or 1))
    if given:
        batch = next(iter(given.values())).shape[:2]
    flat = {name: value.flatten(0, 1) for name, value in given.items()}
    rows = batch.numel()
    # vmap wants one argument at least that has the rows.
    count = torch.zeros(rows)

    def once(_: Tensor, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return _run(model, args, kwargs, values)

    def one(row: int) -> dict[str, Tensor]:
        return once(count[row], {name: value[row] for name, value in flat.items()})

    with torch.no_grad():
        numbers = sum(value.numel() for value in one(0).values()) + 1
        chunk = max(1, _NUMBERS // numbers)
        try:
            mapped = torch.func.vmap(once, randomness="different", chunk_size=chunk)
            with _RandomOutOfPlace(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")
                found = mapped(count, flat)
        except Exception as error:  # vmap raises whatever the model's operations raise
            if rows > _MANY:
                warnings.warn(
                    f"Predictions are drawn one by one, slower and right, because torch.func.vmap "
                    f"cannot take the model: {type(error).__name__}: "
                    f"{(str(error).strip() or '?').splitlines()[0]}",
                    stacklevel=3,
                )
            runs = [one(row) for row in range(rows)]
            found = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}
    return {
        name: value.reshape(batch + value.shape[1:])
        for name, value in found.items()
        if name not in given
    }


class _Forward(Messenger):
    """Give latent sites their values, and let observed ones be drawn."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or site_is_factor(msg) or msg["infer"].get("_deterministic"):
            return
        if msg["name"] in self.values:
            value = self.values[msg["name"]]
            shape = tuple(msg["fn"].shape())
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"The latent site {msg['name']!r} has shape {tuple(value.shape)} in the run "
                    f"and {shape} under the new arguments, so its draws say nothing about the new "
                    "elements. To draw new elements from the model, give the draws without this "
                    "site to pyro.infer.Predictive."
                )
            msg["value"], msg["done"] = value, True
        elif msg["is_observed"]:
            if not msg["cond_indep_stack"]:
                msg["fn"] = _as_long_as_data(msg["fn"], torch.as_tensor(msg["value"]))
            msg["is_observed"], msg["value"], msg["done"] = False, None, False


def _as_long_as_data(fn: Any, value: Tensor) -> Any:
    """A distribution outside of plates with the batch of its data, if that is larger."""
    batch = value.shape[: value.dim() - fn.event_dim]
    own = (1,) * (len(batch) - len(fn.batch_shape)) + tuple(fn.batch_shape)
    fits = len(own) == len(batch) and all(o in (1, b) for o, b in zip(own, batch, strict=True))
    return fn.expand(batch) if fits and own != tuple(batch) else fn


def _cauchy(like: Tensor, median: float = 0.0, sigma: float = 1.0) -> Tensor:
    return median + sigma * (torch.pi * (torch.rand_like(like) - 0.5)).tan()


_RANDOM: dict[Callable, Callable[..., Tensor]] = {
    Tensor.normal_: lambda like, mean=0.0, std=1.0: mean + std * torch.randn_like(like),
    Tensor.uniform_: lambda like, low=0.0, high=1.0: low + (high - low) * torch.rand_like(like),
    Tensor.exponential_: lambda like, rate=1.0: -torch.log1p(-torch.rand_like(like)) / rate,
    Tensor.cauchy_: _cauchy,
}


class _RandomOutOfPlace(TorchFunctionMode):
    """Let distributions draw different numbers per row where they fill one new tensor in place.

    The tensor itself cannot hold them: it is filled with NaN, so that nobody can mistake it.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        if func not in _RANDOM:
            return func(*args, **(kwargs or {}))
        drawn = _RANDOM[func](*args, **(kwargs or {}))
        args[0].fill_(torch.nan)
        return drawn


def _run(
    model: Callable, args: tuple, kwargs: Mapping[str, Any], values: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    with pyro.validation_enabled(False), poutine.block(), _Forward(values):
        trace = poutine.trace(model).get_trace(*args, **kwargs)
    return {
        name: torch.as_tensor(node["value"])
        for name, node in cast(Mapping[str, Any], trace.nodes).items()
        if node["type"] == "sample" and not site_is_subsample(node) and not site_is_factor(node)
    }


def model_of(record: RunRecord) -> ModelProgram:
    """The Pyro model of a run.

    :raises ValueError: the run was not that of a Pyro model.
    """
    program = record.target.described
    if not isinstance(program, ModelProgram):
        raise ValueError(
            "Predictions need a Pyro model; this run sampled a bare energy or a potential."
        )
    return program
