"""Gibbs sampling in C for pairs of two-state sites: Ising and Boltzmann machines, layered or not.

The sampler of :mod:`.gibbs` with every site a block of its own, one sweep or more a step. The log
density comes out of the sweep, so that the target is not asked. Random numbers are made where they
are used, from one key a step; each chain has a stream of its own.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .couplings import BinaryPairs
from .kernel import Kernel, LogDensityAndGradient, Noise, Settings, Transition
from .native.library import library

# Chains that gibbs.c works on together, in a scratch of their size.
BLOCK = 32


class Sweep(ctypes.Structure):
    """What sweeps work on, as gibbs.c declares it."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("dim", "chains", "sweeps")),
        ("key", ctypes.c_uint64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("offset", "first", "middle", "neighbour", "weight"),
                *("position", "next", "log_density", "work", "beta", "base"),
            )
        ),
    )


class NativeGibbsState(NamedTuple):
    """Positions [dim, chains] with their log densities; every step is a whole transition."""

    fresh: Tensor
    position: Tensor
    log_density: Tensor
    version: Tensor


class Neighbours(NamedTuple):
    """The pairs as rows of neighbours, as gibbs.c reads them."""

    offset: Tensor
    first: Tensor
    middle: Tensor
    neighbour: Tensor
    weight: Tensor


def native_gibbs(pairs: BinaryPairs, *, sweeps: int = 1) -> Kernel:
    """Gibbs sweeps on the CPU in float32. A transition reports positions in place of changes.

    :param sweeps: of a transition.
    :raises NoLibrary: where no C compiler makes the code.
    """
    if sweeps < 1:
        raise ValueError(f"sweeps must be at least 1, got {sweeps}.")
    run: Any = library("gibbs").sweep
    run.argtypes, run.restype = [ctypes.c_void_p], None
    rows = neighbours_of(pairs)
    dim = len(pairs.offsets)
    work = torch.empty(dim, BLOCK)

    def init(
        position: Tensor, log_density: Tensor, changes: Tensor, settings: Settings
    ) -> NativeGibbsState:
        if position.dtype != torch.float32 or position.device.type != "cpu":
            raise ValueError(
                "expected positions on the CPU in float32, got "
                f"{position.dtype} on {position.device}."
            )
        chains = position.shape[1]
        return NativeGibbsState(
            fresh=torch.ones(chains, dtype=torch.bool),
            position=position.contiguous(),
            log_density=log_density,
            version=settings.version.expand(chains).clone(),
        )

    def step(
        density: LogDensityAndGradient, state: NativeGibbsState, noise: Noise, settings: Settings
    ) -> tuple[NativeGibbsState, Transition]:
        before = state.position.contiguous()
        if before.shape[0] != dim or before.dtype != torch.float32:
            raise ValueError(f"expected a position of {dim} sites, got shape {before.shape}.")
        chains = before.shape[1]
        position = torch.empty_like(before)
        total = torch.empty(chains, dtype=torch.double)
        called(
            run,
            Sweep(
                dim,
                chains,
                sweeps,
                int(noise.normal),
                *(part.data_ptr() for part in (*rows, before, position, total, work)),
                *(None, None),
            ),
        )
        log_density = (total + pairs.constant).to(state.log_density)
        state = state._replace(position=position, log_density=log_density)
        one, no = torch.ones_like(log_density), ~state.fresh
        count = torch.zeros(chains, dtype=torch.long)
        return state, Transition(
            done=state.fresh,
            position=position,
            gradient=position,
            log_density=log_density,
            acceptance_rate=one,
            energy=-log_density,
            energy_error=torch.zeros_like(log_density),
            tree_depth=count,
            n_steps=count + sweeps,
            diverging=no,
            reached_max_treedepth=no,
            step_size=one,
        )

    return Kernel(init, step, uniforms=0, normals=False)


def called(function: Any, made: ctypes.Structure) -> None:
    """Call a function of the library with what it works on; whoever calls keeps that alive."""
    function(ctypes.addressof(made))


def neighbours_of(pairs: BinaryPairs, dtype: torch.dtype = torch.float32) -> Neighbours:
    """The rows of a model of pairs, with numbers of this type."""
    dim = len(pairs.offsets)
    site, other = torch.cat([pairs.pairs, pairs.pairs.flip(1)]).cpu().unbind(1)
    order = (site * dim + other).argsort()
    site, other = site[order], other[order]
    first = torch.zeros(dim + 1, dtype=torch.long)
    first[1:] = site.bincount(minlength=dim).cumsum(0)
    before = site[other < site].bincount(minlength=dim)
    weight = pairs.weights.cpu().repeat(2)[order]
    return Neighbours(
        offset=pairs.offsets.cpu().to(dtype).contiguous(),
        first=first,
        middle=(first[:-1] + before).contiguous(),
        neighbour=other.int().contiguous(),
        weight=weight.to(dtype).contiguous(),
    )
