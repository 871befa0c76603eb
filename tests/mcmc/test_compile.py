"""A step has no Python branch on a tensor: torch.compile takes it whole, and decides the same."""

import pytest
import torch

from pyro_ebm.energies import Funnel
from pyro_ebm.mcmc.hmc import hmc
from pyro_ebm.mcmc.kernel import Kernel
from pyro_ebm.mcmc.local_hmc import local_hmc
from pyro_ebm.mcmc.nuts import nuts
from pyro_ebm.target.vectorize import traced

from .stage import Stepper, identity, noises, problem_of, settings_of

CHAINS, STEPS = 8, 50
KERNELS = {
    "nuts": nuts(max_tree_depth=4),
    "hmc": hmc(trajectory_length=2.0, jitter=0.5),
    "local-hmc": local_hmc(num_steps=4),
}


# torch's own compiler still imports what torch deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_a_compiled_step_makes_the_same_decisions(kernel: Kernel):
    energy = Funnel(3, scale=1.0).double()
    problem = problem_of(energy)
    start = energy.exact_sample((CHAINS,)).T.contiguous()
    settings = settings_of(0.4, identity(3), max_tree_depth=4)
    plain = Stepper(kernel, problem, start, settings)
    noise = noises(kernel, (3, CHAINS), STEPS, seed=4, dtype=torch.float64)
    state = plain.begin(start, settings)
    compiled = traced(plain.plain_step, state, noise[0], settings, compile_graph=True)
    other, finished = state, 0
    for one in noise:
        state, expected = plain.step(state, one, settings)
        other, found = compiled(other, one, settings)
        finished += int(expected.done.sum())
        for name, value in found._asdict().items():
            if value is None:
                continue
            target = getattr(expected, name)
            if value.is_floating_point():
                torch.testing.assert_close(value, target, atol=1e-9, rtol=1e-9)
            else:
                assert torch.equal(value, target), name
    assert finished >= CHAINS
