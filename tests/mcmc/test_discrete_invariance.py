"""Exact draws in, one transition of each chain, exact draws out: for every kernel over states.

The models are so small that all their configurations are counted. Broken kernels are planted beside
the right ones and must be caught by the same test; the identity passes.
"""

from collections.abc import Callable

import pytest
import torch
from scipy.stats import chi2, chisquare
from torch import Tensor

import pyro_ebm.mcmc.discrete
import pyro_ebm.mcmc.discrete_langevin
import pyro_ebm.mcmc.gibbs_with_gradients
import pyro_ebm.mcmc.path_auxiliary
from pyro_ebm.mcmc.discrete import discrete_settings
from pyro_ebm.mcmc.discrete_langevin import discrete_langevin
from pyro_ebm.mcmc.gibbs import gibbs
from pyro_ebm.mcmc.gibbs_with_gradients import gibbs_with_gradients
from pyro_ebm.mcmc.kernel import Kernel, Noise, Transition
from pyro_ebm.mcmc.path_auxiliary import path_auxiliary
from pyro_ebm.target import Target

from .spins import Cubic, Levels, Rows, Table, glass, ring, table_of

CHAINS = 40_000
FALSE_ALARM = 1e-3

CASES: dict[str, Callable[[], Target]] = {
    "glass": lambda: Target.from_energy(glass(5)),
    "cold ring": lambda: Target.from_energy(ring(6), temperature=0.5),
    "cubic": lambda: Target.from_energy(Cubic(torch.linspace(-1.0, 1.5, 6))),
    "cubic to first order": lambda: Target.from_energy(
        Cubic(torch.linspace(-1.0, 1.5, 6)), exact_changes=False
    ),
    "levels": lambda: Target.from_energy(Levels(4)),
    "levels to first order": lambda: Target.from_energy(Levels(4), exact_changes=False),
    "rows": lambda: Target.from_energy(Rows(3, 4)),
    "rows to first order": lambda: Target.from_energy(Rows(3, 4), exact_changes=False),
}
# Blocks that are right for each case: alone, every other site, or in threes.
BLOCKS = {
    "glass": [0, 1, 2, 3, 4],
    "cold ring": [0, 1, 0, 1, 0, 1],
    "cubic": [0, 1, 2, 3, 4, 5],
    "levels": [0, 1, 0, 1],
    "rows": [0, 1, 0],
}
KERNELS: dict[str, tuple[Callable[[int], Kernel], float]] = {
    "gibbs with gradients": (lambda dim: gibbs_with_gradients(), 1.0),
    "three changes": (lambda dim: gibbs_with_gradients(num_steps=3), 1.0),
    "path": (path_auxiliary, 2.0),
    "long path": (path_auxiliary, 4.0),
    "langevin": (discrete_langevin, 1.0),
    "long langevin": (discrete_langevin, 30.0),
}
COMBINATIONS = [(kernel, case) for kernel in KERNELS for case in CASES] + [
    ("gibbs", case) for case in BLOCKS
]


def kernel_of(name: str, case: str, dim: int) -> tuple[Kernel, float]:
    if name == "gibbs":
        return gibbs(torch.tensor(BLOCKS[case])), 1.0
    make, step_size = KERNELS[name]
    return make(dim), step_size


def one_transition(
    table: Table,
    kernel: Kernel,
    step_size: float,
    *,
    tamper: Callable[[Noise], Noise] = lambda noise: noise,
) -> tuple[Tensor, Transition]:
    """Exact draws [dim, chains], and the first transition of each."""
    start = table.draws(CHAINS)
    settings = discrete_settings(step_size, start)
    density = table.target.log_density_and_changes
    state = kernel.init(start, *density(start), settings)
    while True:
        uniform = torch.rand(kernel.uniforms, CHAINS, dtype=start.dtype)
        noise = tamper(Noise(torch.zeros(()), uniform))
        state, transition = kernel.step(density, state, noise, settings)
        if bool(transition.done.all()):
            return start, transition


def p_value(table: Table, positions: Tensor) -> float:
    """Of the chi-square of the counts of all configurations."""
    counts, expected = table.counts(positions), positions.shape[1] * table.probabilities
    often = expected >= 5
    if not bool(often.all()):
        counts = torch.cat([counts[often], counts[~often].sum()[None]])
        expected = torch.cat([expected[often], expected[~often].sum()[None]])
        if float(expected[-1]) < 5:
            counts, expected = counts[:-1], expected[:-1]
            expected = expected * counts.sum() / expected.sum()
    return float(chisquare(counts.numpy(), (expected * counts.sum() / expected.sum()).numpy())[1])


@pytest.mark.parametrize(("name", "case"), COMBINATIONS)
def test_a_kernel_leaves_its_target_invariant(name: str, case: str):
    table = table_of(CASES[case]())
    kernel, step_size = kernel_of(name, case, table.target.dim)
    start, transition = one_transition(table, kernel, step_size)
    assert not torch.equal(start, transition.position)
    assert p_value(table, transition.position) > FALSE_ALARM / len(COMBINATIONS)


@pytest.mark.parametrize(("name", "case"), COMBINATIONS)
def test_what_a_transition_reports_belongs_to_its_draw(name: str, case: str):
    table = table_of(CASES[case]())
    kernel, step_size = kernel_of(name, case, table.target.dim)
    _, transition = one_transition(table, kernel, step_size)
    log_density, changes = table.target.log_density_and_changes(transition.position)
    torch.testing.assert_close(transition.log_density, log_density)
    torch.testing.assert_close(transition.gradient, changes)


@pytest.mark.parametrize("case", CASES)
def test_the_identity_passes(case: str):
    table = table_of(CASES[case]())
    assert p_value(table, table.draws(CHAINS)) > FALSE_ALARM / len(CASES)


def test_exact_changes_leave_nothing_to_reject_of_independent_sites_resampled_by_gibbs():
    table = table_of(CASES["levels"]())
    _, transition = one_transition(table, gibbs(torch.tensor(BLOCKS["levels"])), 1.0)
    assert bool((transition.acceptance_rate == 1).all())


def without_accept(noise: Noise) -> Noise:
    """The last uniform number decides; zero takes every proposal."""
    uniform = noise.uniform.clone()
    uniform[-1] = 0.0
    return noise._replace(uniform=uniform)


MODULES = {
    "gibbs with gradients": pyro_ebm.mcmc.gibbs_with_gradients,
    "long path": pyro_ebm.mcmc.path_auxiliary,
    "long langevin": pyro_ebm.mcmc.discrete_langevin,
}
LOUD = ["cubic", "levels", "rows to first order"]


def caught(name: str, case: str, **options: Callable) -> bool:
    table = table_of(CASES[case]())
    kernel, step_size = kernel_of(name, case, table.target.dim)
    _, transition = one_transition(table, kernel, step_size, **options)
    return p_value(table, transition.position) < FALSE_ALARM / len(COMBINATIONS)


@pytest.mark.parametrize("case", LOUD)
@pytest.mark.parametrize("name", MODULES)
def test_a_dropped_accept_is_caught(name: str, case: str):
    assert caught(name, case, tamper=without_accept)


@pytest.mark.parametrize("case", LOUD)
@pytest.mark.parametrize("name", MODULES)
def test_a_wrong_sign_is_caught(name: str, case: str, monkeypatch: pytest.MonkeyPatch):
    right = pyro_ebm.mcmc.discrete.judge

    def wrong(state, new, uniform, *, num_steps):
        new = new._replace(log_ratio=-new.log_ratio)
        return right(state, new, uniform, num_steps=num_steps)

    monkeypatch.setattr(MODULES[name], "judge", wrong)
    assert caught(name, case)


@pytest.mark.parametrize("case", LOUD)
@pytest.mark.parametrize("name", MODULES)
def test_a_way_back_without_the_new_changes_is_caught(
    name: str, case: str, monkeypatch: pytest.MonkeyPatch
):
    """The proposal is taken for a symmetric one."""
    right = pyro_ebm.mcmc.discrete.judge

    def wrong(state, new, uniform, *, num_steps):
        new = new._replace(log_ratio=torch.zeros_like(new.log_ratio))
        return right(state, new, uniform, num_steps=num_steps)

    monkeypatch.setattr(MODULES[name], "judge", wrong)
    assert caught(name, case)


def test_a_block_of_sites_that_interact_is_caught():
    table = table_of(CASES["cold ring"]())
    _, transition = one_transition(table, gibbs(torch.tensor([0, 0, 1, 0, 0, 1])), 1.0)
    assert p_value(table, transition.position) < FALSE_ALARM / len(COMBINATIONS)


def test_the_chi_square_of_exact_draws_is_one():
    table = table_of(CASES["glass"]())
    values = torch.tensor([p_value(table, table.draws(2000)) for _ in range(200)])
    # Fisher's combination of p-values.
    statistic = float(-2 * values.clamp(min=1e-12).log().sum())
    assert chi2.sf(statistic, 400) > FALSE_ALARM
