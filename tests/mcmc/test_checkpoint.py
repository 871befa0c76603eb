"""A state as a file: whatever a kernel's state is made of comes back, and damage is told."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_ebm.energies import Banana
from pyro_ebm.mcmc import checkpoint
from pyro_ebm.mcmc.adaptation import Dense, Diagonal, LowRank, MetricKind, Warmup, begin
from pyro_ebm.mcmc.checkpoint import Saved, flatten, rebuild, restored
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.nuts import nuts

from .stage import problem_of


class Inner(NamedTuple):
    """A part of a state."""

    values: Tensor
    maybe: Tensor | None


class State(NamedTuple):
    """A state with everything that states may hold."""

    inner: Inner
    pair: tuple[Tensor, Tensor]
    by_name: dict[str, Tensor]
    count: int
    rate: float
    over: bool
    gone: Inner | None


def state(*, size: int = 3, gone: bool = False) -> State:
    inner = Inner(torch.randn(2, size), None)
    return State(
        inner,
        (torch.arange(size), torch.rand(size) < 0.5),
        {"a": torch.randn(size, dtype=torch.float64), "b": torch.tensor(1, dtype=torch.uint8)},
        7,
        0.25,
        True,
        None if gone else inner,
    )


def equal(a: Any, b: Any) -> bool:
    first, second = flatten(a), flatten(b)
    return first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype and np.array_equal(first[k], second[k]) for k in first
    )


def test_every_kind_of_state_comes_back(tmp_path: Path):
    saved = state(size=5, gone=True)
    checkpoint.write(tmp_path / "state.npz", Saved(flatten(saved), {"where": "here"}))
    read = checkpoint.read(tmp_path / "state.npz")
    assert read.about == {"where": "here"}
    sized = {r"inner\.values": 1, r"pair\.\d": 0, r"by_name\.a": 0}
    found = rebuild(state(), read.arrays, free=sized)
    assert equal(found, saved)
    assert isinstance(found.inner, Inner)
    assert found.gone is None
    assert (type(found.count), type(found.rate), type(found.over)) == (int, float, bool)


@pytest.mark.parametrize("kind", [Diagonal(), Dense(), LowRank(1)])
@pytest.mark.parametrize("kernel", [nuts(), hmc(num_steps=3)], ids=["nuts", "hmc"])
def test_states_of_kernels_and_of_adaptation_come_back(kind: MetricKind, kernel: Any):
    density = problem_of(Banana()).log_density_and_gradient
    start = torch.randn(2, 4)
    at = (start, *density(start))
    adaptation = begin(Warmup(60, kind=kind), density, *at, torch.randn(2, 4), settings=None)
    whole = (kernel.init(*at, adaptation.settings), adaptation)
    assert equal(rebuild(whole, flatten(whole)), whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda arrays: arrays.pop("pair.1"), "expected pair.1"),
        (lambda arrays: arrays.update(extra=np.zeros(1)), "extra"),
        (lambda arrays: arrays.update(count2=np.zeros(1)), "count2"),
        (lambda arrays: arrays.update({"pair.0": np.zeros(3)}), "int64"),
        (lambda arrays: arrays.update({"pair.0": np.zeros((3, 1), dtype=int)}), "axes"),
        (
            lambda arrays: arrays.update({"pair.0": np.zeros(2, dtype=int)}),
            r"shape \[3\], got \[2\]",
        ),
        (lambda arrays: arrays.update(count=np.zeros(2)), "one number"),
        (lambda arrays: arrays.pop("inner.maybe:none"), "no inner.maybe"),
    ],
)
def test_a_state_of_another_structure_is_refused(change: Any, said: str):
    arrays = flatten(state())
    change(arrays)
    with pytest.raises(ValueError, match=said):
        rebuild(state(), arrays)


def test_a_file_that_is_cut_off_anywhere_is_told(tmp_path: Path):
    path = tmp_path / "state.npz"
    checkpoint.write(path, Saved(flatten(state()), {}))
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"state\.npz is cut off or damaged"):
            checkpoint.read(path)


def test_a_flipped_bit_is_told(tmp_path: Path):
    path = tmp_path / "state.npz"
    checkpoint.write(path, Saved({"values": np.arange(1000.0)}, {}))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.read(path)


def test_a_file_with_pickled_objects_is_refused(tmp_path: Path):
    path = tmp_path / "state.npz"
    np.savez(path, values=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.read(path)


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "state.npz"
    checkpoint.write(path, Saved({"values": np.ones(3)}, {}))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(path, Saved({"values": np.zeros(3)}, {}))
    monkeypatch.undo()
    assert np.array_equal(checkpoint.read(path).arrays["values"], np.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["state.npz"]


def test_something_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="text"):
        flatten({"text": "a"})


class Typed(NamedTuple):
    """A state whose fields say what they are, with lists that grow."""

    inner: Inner
    gone: Inner | None
    rate: float
    over: bool
    number: int | None
    floats: list[float]
    tensors: list[Tensor]


def typed(length: int) -> Typed:
    inner = Inner(torch.randn(2, 3), None)
    tensors = [torch.randn(2) for _ in range(length)]
    return Typed(inner, None, 0.1, False, 3, [0.1 * i for i in range(length)], tensors)


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_state_is_read_by_the_types_of_its_fields(length: int, tmp_path: Path):
    before = typed(length)
    checkpoint.write(tmp_path / "state.npz", Saved(flatten(before, "state"), {}))
    arrays = checkpoint.read(tmp_path / "state.npz").arrays
    found = restored(Typed, arrays, "state", torch.device("cpu"))
    assert isinstance(found, Typed)
    assert isinstance(found.inner, Inner)
    assert equal(found, before)
    assert found.floats == before.floats
    assert (found.gone, found.over, found.number) == (None, False, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state.more": np.zeros(1)}, "expected no state.more"),
        ({"state.rate": np.zeros(2)}, "state.rate as one number"),
        ({"state.tensors": None}, "expected state.tensors"),
        ({"state.inner.values": None}, "expected state.inner.values"),
    ],
)
def test_a_state_of_other_fields_is_refused(change: dict[str, Any], said: str):
    arrays = {**flatten(typed(2), "state"), **change}
    kept = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(ValueError, match=said):
        restored(Typed, kept, "state", torch.device("cpu"))
