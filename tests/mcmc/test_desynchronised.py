"""All chains in one go, each at its own pace, do what one chain of a plain NUTS does alone."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch

from pyro_ebm.energies import Banana, Energy, Funnel
from pyro_ebm.mcmc.kernel import Noise
from pyro_ebm.mcmc.metric import DenseMetric, inverse_mass_matrix
from pyro_ebm.mcmc.nuts import nuts

from . import plain_nuts
from .stage import Stepper, identity, metrics, noises, problem_of, settings_of

MAX_DEPTH = 8


def banana(z: plain_nuts.Vector) -> tuple[float, plain_nuts.Vector]:
    """x0 ~ N(0, 1), x1 ~ N(x0^2/2, 0.6^2): the twin of Banana(curvature=0.5, width=0.6)."""
    rest = (z[1] - 0.5 * z[0] ** 2) / 0.6
    slope = np.array([-z[0] + rest * z[0] / 0.6, -rest / 0.6])
    return float(-0.5 * z[0] ** 2 - 0.5 * rest**2), slope


def funnel(scale: float) -> plain_nuts.Density:
    """v ~ N(0, scale^2), x_i ~ N(0, e^v): the twin of Funnel(dim, scale=scale)."""

    def density(z: plain_nuts.Vector) -> tuple[float, plain_nuts.Vector]:
        v, x = z[0], z[1:]
        inverse = np.exp(-v)
        square = float(x @ x)
        value = -0.5 * (v / scale) ** 2 - 0.5 * len(x) * v - 0.5 * inverse * square
        push = -v / scale**2 - 0.5 * len(x) + 0.5 * inverse * square
        return float(value), np.concatenate([[push], -inverse * x])

    return density


class Twins(NamedTuple):
    """The same density twice: an energy of ours, and plain NumPy."""

    energy: Energy
    plain: plain_nuts.Density
    step_size: float


TWINS = {
    "banana": Twins(Banana(curvature=torch.tensor(0.5).double(), width=0.6).double(), banana, 0.3),
    "funnel": Twins(Funnel(3, scale=torch.tensor(2.0).double()), funnel(2.0), 0.25),
}


def stream(noise: list[Noise], chain: int) -> Iterator[plain_nuts.Uses]:
    """One chain's random numbers, step by step."""
    for step in noise:
        yield plain_nuts.Uses(
            step.normal[:, chain].numpy(), *(float(u) for u in step.uniform[:, chain])
        )


def at(density: plain_nuts.Density, position: torch.Tensor) -> plain_nuts.Point:
    z = position.numpy()
    return plain_nuts.Point(z, np.zeros_like(z), *density(z))


@pytest.mark.parametrize("kind", ["identity", "diagonal", "dense"])
@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_each_transition_is_that_of_a_plain_sampler(twins: Twins, kind: str):
    chains, steps = 200, 2**MAX_DEPTH
    kernel = nuts(max_tree_depth=MAX_DEPTH)
    start = twins.energy.exact_sample((chains,)).T.contiguous()
    dim = start.shape[0]
    metric = {"identity": identity(dim), **metrics(dim)}[kind]
    settings = settings_of(twins.step_size, metric, max_tree_depth=MAX_DEPTH)
    noise = noises(kernel, (dim, chains), steps, seed=1, dtype=torch.float64)

    stepper = Stepper(kernel, problem_of(twins.energy), start, settings)
    state = stepper.begin(start, settings)
    ours = {}
    for one in noise:
        state, transition = stepper.step(state, one, settings)
        for chain in transition.done.nonzero()[:, 0].tolist():
            own = [None if part is None else part[..., chain] for part in transition]
            ours.setdefault(chain, own)

    matrix = inverse_mass_matrix(metric)
    root = metric.factor[0] if isinstance(metric, DenseMetric) else matrix.sqrt().diag()
    depths = set()
    for chain in range(chains):
        plain = plain_nuts.transition(
            twins.plain,
            at(twins.plain, start[:, chain]),
            stream(noise, chain),
            step_size=twins.step_size,
            root=root.numpy(),
            max_depth=MAX_DEPTH,
        )
        found = type(transition)(*ours[chain])
        decisions = (int(found.tree_depth), int(found.n_steps), bool(found.diverging))
        assert decisions == (plain.depth, plain.num_steps, plain.diverging)
        np.testing.assert_allclose(found.position.numpy(), plain.draw.position, atol=1e-9, rtol=0)
        np.testing.assert_allclose(float(found.energy), plain.draw.energy, atol=1e-9, rtol=0)
        np.testing.assert_allclose(float(found.acceptance_rate), plain.acceptance_rate, atol=1e-9)
        depths.add(plain.depth)
    assert len(depths) >= 3


def test_a_free_run_draws_what_a_plain_sampler_draws():
    chains, steps, step_size = 4, 600, 0.4
    twins = Twins(Funnel(2, scale=torch.tensor(1.0).double()), funnel(1.0), step_size)
    kernel = nuts(max_tree_depth=MAX_DEPTH)
    start = twins.energy.exact_sample((chains,)).T.contiguous()
    settings = settings_of(step_size, identity(2), max_tree_depth=MAX_DEPTH)
    noise = noises(kernel, (2, chains), steps, seed=2, dtype=torch.float64)
    stepper = Stepper(kernel, problem_of(twins.energy), start, settings)
    state = stepper.begin(start, settings)
    ours: list[list[torch.Tensor]] = [[] for _ in range(chains)]
    for one in noise:
        state, transition = stepper.step(state, one, settings)
        for chain in transition.done.nonzero()[:, 0].tolist():
            ours[chain].append(transition.position[:, chain])

    counts = {len(draws) for draws in ours}
    assert len(counts) > 1, "the chains must fall out of step for this to say anything"
    assert min(counts) >= 50
    for chain, draws in enumerate(ours):
        point = at(twins.plain, start[:, chain])
        uses = stream(noise, chain)
        for draw in draws:
            point = plain_nuts.transition(
                twins.plain, point, uses, step_size=step_size, root=np.eye(2), max_depth=MAX_DEPTH
            ).draw
            np.testing.assert_allclose(draw.numpy(), point.position, atol=1e-9, rtol=0)
