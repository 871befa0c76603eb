"""The bookkeeping in C makes the decisions of the one in torch, from the same random numbers."""

import pytest
import torch

from pyro_ebm.energies import Banana, Funnel
from pyro_ebm.mcmc.adaptation import Warmup
from pyro_ebm.mcmc.kernel import Noise
from pyro_ebm.mcmc.native_nuts import native_nuts, random_numbers
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.mcmc.run import Plan, Problem, run_chains
from pyro_ebm.target.vectorize import traced

from .stage import identity, metrics, problem_of, settings_of

MAX_DEPTH, STEPS = 6, 150
ENERGIES = {
    "banana": (Banana(curvature=torch.tensor(0.5).double(), width=0.6).double(), 0.3),
    # Steps that are too long for its neck: trees that turn, and some that diverge.
    "funnel": (Funnel(3, scale=torch.tensor(2.0).double()), 0.5),
}


def noises(shape, seed, dtype):
    """Noise for the sampler in C, and the same for the one in torch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        key = torch.randint(2**62, (), generator=generator)
        yield (
            Noise(key, torch.empty(0, shape[1], dtype=dtype)),
            Noise(*random_numbers(int(key), torch.empty(shape, dtype=dtype))),
        )


@pytest.mark.parametrize("kind", ["identity", *metrics(2)])
@pytest.mark.parametrize("chains", [1, 53])
@pytest.mark.parametrize("name", ENERGIES)
def test_every_step_is_that_of_the_kernel_in_torch(name, chains, kind):
    energy, step_size = ENERGIES[name]
    start = energy.exact_sample((chains,)).T.contiguous()
    dim = start.shape[0]
    density = traced(problem_of(energy).log_density_and_gradient, start)
    metric = {"identity": identity(dim), **metrics(dim)}[kind]
    versions = metric[0].shape[0]
    sizes = step_size * torch.linspace(0.5, 1.5, chains, dtype=torch.float64)
    native, plain = (make(max_tree_depth=MAX_DEPTH) for make in (native_nuts, nuts))
    settings = settings_of(sizes, metric, max_tree_depth=MAX_DEPTH)
    log_density, gradient = density(start)
    a = native.init(start, log_density, gradient, settings)
    b = plain.init(start, log_density, gradient, settings)
    finished = diverged = 0
    for t, (ours, theirs) in enumerate(noises((dim, chains), seed=3, dtype=torch.float64)):
        if t % 30 == 29:
            # As in warm-up: the other version, and other steps, from the next transitions on.
            settings = settings._replace(
                step_size=0.9 * settings.step_size,
                version=(settings.version + 1) % versions,
                max_tree_depth=torch.tensor(MAX_DEPTH - t // 60),
            )
        if t % 16 == 0:
            a, b = native.make_room(a, 16), plain.make_room(b, 16)
        a, found = native.step(density, a, ours, settings)
        b, expected = plain.step(density, b, theirs, settings)
        finished += int(expected.done.sum())
        diverged += int(expected.diverging.sum())
        done = expected.done
        assert torch.equal(found.done, done)
        for field, value in found._asdict().items():
            if value is None:
                continue
            # What is reported of a transition, its end tells.
            value, target = value[..., done], getattr(expected, field)[..., done]
            if value.is_floating_point():
                torch.testing.assert_close(value, target, atol=1e-7, rtol=1e-7)
            else:
                assert torch.equal(value, target), field
    assert finished >= 3
    assert name != "funnel" or chains == 1 or diverged > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_momenta_are_standard_normal_and_their_own_in_every_chain_and_step(dtype):
    like = torch.empty((7, 20_000), dtype=dtype)
    (first, _), (second, _) = random_numbers(1, like), random_numbers(2, like)
    joint = torch.cat([first, second]).double()
    n = joint.shape[1]
    assert float(joint.mean(1).abs().max()) < 4.5 / n**0.5
    # Of squares and products of two the standard deviations are sqrt(2) and 1.
    assert float((torch.cov(joint) - torch.eye(14)).abs().max()) < 4.5 * (2 / n) ** 0.5
    inside = (torch.special.ndtr(joint).sort(1).values - torch.linspace(0, 1, n)).abs().amax(1)
    assert float(inside.max()) < 2.0 / n**0.5
    assert torch.equal(random_numbers(1, like)[0], first)


@pytest.mark.parametrize("coordinates", [None, [1]])
@pytest.mark.parametrize(("thinning", "warmup"), [(1, 0), (3, 0), (2, 40)])
def test_draws_that_c_writes_are_those_of_single_steps(thinning, warmup, coordinates):
    energy, _ = ENERGIES["banana"]
    problem = Problem(problem_of(energy).log_density_and_gradient, lambda function, *_: function)
    plan = Plan(
        30,
        Warmup(warmup, step_size=0.2, max_tree_depth=MAX_DEPTH),
        thinning=thinning,
        coordinates=None if coordinates is None else torch.tensor(coordinates),
        keep_warmup=True,
    )
    kernel = native_nuts(max_tree_depth=MAX_DEPTH)
    start = energy.exact_sample((21,)).T.contiguous()
    once, steps = (
        run_chains(problem, each, start, plan, generator=torch.Generator().manual_seed(1))
        for each in (kernel, kernel._replace(keep_block=None))
    )
    assert once.error is None
    assert steps.error is None
    assert once.state is not None
    assert steps.state is not None
    for mine, theirs in ((once.draws, steps.draws), (once.warmup_draws, steps.warmup_draws)):
        assert mine is not None
        assert theirs is not None
        assert torch.equal(mine.kept, theirs.kept)
        assert torch.equal(mine.positions, theirs.positions)
        for name, value in mine.statistics.items():
            assert torch.equal(value, theirs.statistics[name]), name
    assert torch.equal(once.state.position, steps.state.position)
    assert torch.equal(once.state.transitions, steps.state.transitions)


def test_half_precision_is_refused():
    with pytest.raises(ValueError, match="float32 or float64"):
        native_nuts(torch.bfloat16)


def test_positions_of_another_precision_are_refused():
    kernel = native_nuts(torch.float64)
    position = torch.zeros(2, 3, dtype=torch.float32)
    settings = settings_of(0.1, identity(2, dtype=torch.float32))
    with pytest.raises(ValueError, match=r"in torch\.float64, got"):
        kernel.init(position, position[0], position, settings)


def test_a_state_before_a_block_of_steps_is_kept_as_it_was():
    energy, step_size = ENERGIES["banana"]
    density = problem_of(energy).log_density_and_gradient
    start = energy.exact_sample((9,)).T.contiguous()
    settings = settings_of(step_size, identity(2), max_tree_depth=MAX_DEPTH)
    kernel = native_nuts(max_tree_depth=MAX_DEPTH)
    before = kernel.init(start, *density(start), settings)
    kept = [part.clone() for part in before]
    state = kernel.make_room(before, 16)
    for _, (noise, _) in zip(range(16), noises((2, 9), 5, torch.float64), strict=False):
        state, _ = kernel.step(density, state, noise, settings)
    assert all(torch.equal(a, b) for a, b in zip(kept, before, strict=True))
    assert not torch.equal(state.vectors, before.vectors)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("leaf", lambda part: part + 5),
        ("leaf", lambda part: part - 1),
        ("depth", lambda part: part + 50),
        ("version", lambda part: part + 2),
        ("forward", lambda part: torch.full_like(part, 7, dtype=torch.uint8).view(torch.bool)),
        ("vectors", lambda part: part[:, :1].contiguous()),
        ("tree_weight", lambda part: part[:3].contiguous()),
        ("checkpoints", lambda part: part[:, :, :1].contiguous()),
        ("vectors", lambda part: part.transpose(0, 2)),
    ],
)
def test_a_damaged_state_is_refused_before_c_sees_it(name, damage):
    energy, step_size = ENERGIES["banana"]
    density = problem_of(energy).log_density_and_gradient
    start = energy.exact_sample((16,)).T.contiguous()
    settings = settings_of(step_size, identity(2), max_tree_depth=MAX_DEPTH)
    kernel = native_nuts(max_tree_depth=MAX_DEPTH)
    state = kernel.init(start, *density(start), settings)
    ours, _ = next(noises((2, 16), 5, torch.float64))
    kernel.step(density, state, ours, settings)
    with pytest.raises(ValueError, match=r"in a state|no tree can have"):
        kernel.step(density, state._replace(**{name: damage(getattr(state, name))}), ours, settings)
