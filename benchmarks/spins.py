"""Spin updates a second: Gibbs sampling of an Ising model on a torus, many chains at once.

    python -m benchmarks.spins --length 32 --chains 64 --threads 1

Each contestant makes whole sweeps of all chains; what is counted is one update for every site of
every sweep, by the fastest of some repeats after a first run that compiles: in seconds of the
clock, and of processor time, which a busy machine changes little. The mean energy a site
of each is printed beside its pace, with what the exact solution of the infinite lattice says: a
sampler that is wrong has no pace.

thrml is given the lattice as its README gives a chain: nodes, edges, an ``IsingEBM``, and the two
blocks of the chequerboard. A whole run of all chains is compiled as one and only the last state is
kept; a sweep is a step of both blocks. What XLA makes of it depends on how chains are mapped, so
both ways are timed: every chain by a vmap of the run, and one after the other.

JAX is represented by a chequerboard of two blocks written by hand, with nothing of a general
library in it: bonds are shifts of the lattice, random numbers one call a block, and a whole run is
one compiled loop.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import ellipk

import pyro_ebm as ebm
from pyro_ebm.mcmc.couplings import binary_pairs
from pyro_ebm.mcmc.discrete import discrete_settings
from pyro_ebm.mcmc.gibbs import gibbs
from pyro_ebm.mcmc.kernel import Noise
from pyro_ebm.mcmc.native_gibbs import native_gibbs
from pyro_ebm.target.discrete import DiscreteProgram

_REPEATS = 5


class Lattice(NamedTuple):
    """What is sampled, and in how many chains and sweeps at a time."""

    length: int
    temperature: float
    chains: int
    sweeps: int


# Makes so many sweeps from where the last run ended, and gives spins [chains, length, length].
Sampler = Callable[[int], np.ndarray]


def native(lattice: Lattice) -> Sampler:
    """Sweeps in C."""
    target, position, settings = _begun(lattice)
    pairs = binary_pairs(target)
    assert pairs is not None
    kernel = native_gibbs(pairs, sweeps=lattice.sweeps)
    density = target.log_density_and_changes
    state = [kernel.init(position, *density(position), settings)]

    def run(seed: int) -> np.ndarray:
        noise = Noise(torch.tensor(seed + 1), torch.zeros(0, lattice.chains))
        state[0], transition = kernel.step(density, state[0], noise, settings)
        return _spins(transition.position, lattice)

    return run


def in_torch(lattice: Lattice) -> Sampler:
    """Two blocks, recorded, as where there is no compiler."""
    target, position, settings = _begun(lattice)
    assert isinstance(target.program, DiscreteProgram)
    kernel = gibbs(target.program.blocks)
    density = target.recorded.at(position)
    state = [kernel.init(position, *density(position), settings)]
    noise = Noise(torch.zeros(()), torch.rand(kernel.uniforms, lattice.chains))
    record = target.recorder(position)

    def one(chain, noise, settings):
        return kernel.step(target.recorded, chain, noise, settings)

    step = record(one, state[0], noise, settings)

    def run(seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(2 * lattice.sweeps):
            uniform = torch.rand(kernel.uniforms, lattice.chains, generator=generator)
            state[0], _ = step(state[0], noise._replace(uniform=uniform), settings)
        return _spins(state[0].position, lattice)

    return run


def in_jax(lattice: Lattice) -> Sampler:
    """A chequerboard by hand, one compiled loop.

    :raises ImportError: there is no JAX.
    """
    import jax
    import jax.numpy as jnp

    side, beta = lattice.length, 1.0 / lattice.temperature
    even = (jnp.indices((side, side)).sum(0) % 2 == 0)[None]
    state = [jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, _shape(lattice)), 1.0, -1.0)]

    def half(spins, key, block):
        around = sum(jnp.roll(spins, shift, axis) for shift in (1, -1) for axis in (1, 2))
        up = jax.nn.sigmoid(2 * beta * around)
        drawn = jnp.where(jax.random.uniform(key, spins.shape) < up, 1.0, -1.0)
        return jnp.where(block, drawn, spins)

    def sweep(spins, key):
        first, second = jax.random.split(key)
        return half(half(spins, first, even), second, ~even), None

    @jax.jit
    def sweeps(spins, key):
        return jax.lax.scan(sweep, spins, jax.random.split(key, lattice.sweeps))[0]

    def run(seed: int) -> np.ndarray:
        state[0] = sweeps(state[0], jax.random.key(seed)).block_until_ready()
        return np.asarray(state[0])

    return run


def in_thrml(lattice: Lattice, *, together: bool) -> Sampler:
    """Two blocks of thrml, all chains under one jit.

    :param together: whether chains are a batch, or taken one after the other.
    :raises ImportError: there is no thrml.
    """
    import jax
    import jax.numpy as jnp
    from thrml import Block, SamplingSchedule, SpinNode, sample_states
    from thrml.models import IsingEBM, IsingSamplingProgram, hinton_init

    side = lattice.length
    rows = [[SpinNode() for _ in range(side)] for _ in range(side)]
    nodes = [node for row in rows for node in row]
    edges = []
    for i in range(side):
        for j in range(side):
            edges += [(rows[i][j], rows[(i + 1) % side][j]), (rows[i][j], rows[i][(j + 1) % side])]
    beta = jnp.array(1.0 / lattice.temperature)
    model = IsingEBM(nodes, edges, jnp.zeros(len(nodes)), jnp.ones(len(edges)), beta)
    blocks = [Block([rows[i][j] for i, j in _of_colour(side, colour)]) for colour in (0, 1)]
    program = IsingSamplingProgram(model, blocks, clamped_blocks=[])
    # Warm-up of all sweeps but the last, and one sample: nothing else is stored.
    schedule = SamplingSchedule(lattice.sweeps - 1, 1, 1)
    state = [hinton_init(jax.random.key(0), model, blocks, (lattice.chains,))]

    def one(key, first):
        return [drawn[-1] for drawn in sample_states(key, program, schedule, first, [], blocks)]

    @jax.jit
    def all_chains(keys, first):
        if together:
            return jax.vmap(one)(keys, first)
        return jax.lax.map(lambda pair: one(*pair), (keys, first))

    place = np.argsort([i * side + j for c in (0, 1) for i, j in _of_colour(side, c)])

    def run(seed: int) -> np.ndarray:
        keys = jax.random.split(jax.random.key(seed), lattice.chains)
        state[0] = jax.block_until_ready(all_chains(keys, state[0]))
        flat = np.concatenate([np.asarray(part) for part in state[0]], 1)[:, place]
        return np.where(flat, 1.0, -1.0).reshape(_shape(lattice))

    return run


CONTESTANTS: dict[str, Callable[[Lattice], Sampler]] = {
    "pyro_ebm in C": native,
    "pyro_ebm in torch": in_torch,
    "thrml, vmap": partial(in_thrml, together=True),
    "thrml, map": partial(in_thrml, together=False),
    "JAX by hand": in_jax,
}


def exact_energy(temperature: float) -> float:
    """The energy a site of the infinite lattice (Onsager 1944)."""
    beta = 1.0 / temperature
    k = 2 * math.sinh(2 * beta) / math.cosh(2 * beta) ** 2
    middle = 2 * math.tanh(2 * beta) ** 2 - 1
    return -(1 + 2 / math.pi * middle * float(ellipk(k * k))) / math.tanh(2 * beta)


def energy(spins: np.ndarray) -> float:
    """The mean energy a site."""
    spins = spins.astype(float)
    return float(-(spins * (np.roll(spins, 1, 1) + np.roll(spins, 1, 2))).mean())


class Measured(NamedTuple):
    """Spin updates a second of the clock and of processor time, by the fastest repeat of each, and
    the mean energy a site of the later repeats."""

    by_clock: float
    by_processor: float
    energy: float


def measured(run: Sampler, lattice: Lattice) -> Measured:
    """The pace of a contestant."""
    run(0)
    seconds, processor, energies = [], [], []
    for seed in range(1, _REPEATS + 1):
        began, worked = time.perf_counter(), time.process_time()
        spins = run(seed)
        processor.append(time.process_time() - worked)
        seconds.append(time.perf_counter() - began)
        energies.append(energy(spins))
    updates = lattice.length**2 * lattice.chains * lattice.sweeps
    late = float(np.mean(energies[_REPEATS // 2 :]))
    return Measured(updates / min(seconds), updates / min(processor), late)


def main() -> None:
    """Print a line for each contestant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=3.0)
    parser.add_argument("--chains", type=int, default=64)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    lattice = Lattice(given.length, given.temperature, given.chains, given.sweeps)
    torch.set_num_threads(given.threads)
    os.environ["XLA_FLAGS"] = (
        f"--xla_cpu_multi_thread_eigen={'true' if given.threads > 1 else 'false'}"
    )
    os.sched_setaffinity(0, set(range(given.threads)))
    print(f"{lattice}, {given.threads} thread(s), load {os.getloadavg()[0]:.1f}")
    print(f"exact energy a site of the infinite lattice {exact_energy(given.temperature):.4f}")
    for name, make in CONTESTANTS.items():
        try:
            found = measured(make(lattice), lattice)
        except ImportError as error:
            print(f"{name:20s} {error}")
            continue
        print(
            f"{name:20s} million updates a second: {found.by_clock / 1e6:8.1f} by the clock, "
            f"{found.by_processor / 1e6:8.1f} of processor time; energy {found.energy:.4f}"
        )


def _begun(lattice: Lattice):
    energy = ebm.Ising.lattice((lattice.length, lattice.length))
    target = ebm.Target.from_energy(energy, temperature=lattice.temperature)
    generator = torch.Generator().manual_seed(0)
    position = target.initial_positions(lattice.chains, generator=generator)
    return target, position, discrete_settings(1.0, position)


def _of_colour(side: int, colour: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(side) for j in range(side) if (i + j) % 2 == colour]


def _shape(lattice: Lattice) -> tuple[int, int, int]:
    return lattice.chains, lattice.length, lattice.length


def _spins(position: torch.Tensor, lattice: Lattice) -> np.ndarray:
    return (2 * position.T.reshape(_shape(lattice)) - 1).numpy()


if __name__ == "__main__":
    main()
