"""Chains evaluated some at a time make the draws that they make together, in less memory."""

import subprocess
import sys
from pathlib import Path

import pyro
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.energies import Energy
from tests.models import load


class Noting(Energy):
    """A quartic that notes for how many configurations at once it is asked."""

    def __init__(self):
        super().__init__((2,))
        self.most = 0

    def forward(self, x):
        self.most = max(self.most, x.shape[0])
        return 0.25 * x.pow(4).sum(-1)


def draws(kernel, **options):
    torch.set_default_dtype(torch.float64)
    posterior = load("eight_schools")
    pyro.set_rng_seed(5)
    mcmc = ebm.MCMC(kernel(posterior.model), 10, 30, num_chains=11, disable_progbar=True, **options)
    mcmc.run(*posterior.args, **posterior.kwargs)
    return mcmc.record.positions


@pytest.mark.parametrize("jit_compile", [False, "auto"])
@pytest.mark.parametrize("kernel", [ebm.NUTS, ebm.HMC])
@pytest.mark.parametrize("size", [4, 11, 100])
def test_batches_change_nothing(kernel, jit_compile, size):
    def made(model):
        return kernel(model, jit_compile=jit_compile)

    whole = draws(made)
    torch.testing.assert_close(draws(made, chain_batch_size=size), whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, "auto"])
def test_no_more_chains_are_evaluated_at_once_than_are_asked_for(jit_compile):
    energy = Noting()
    kernel = ebm.NUTS(energy, jit_compile=jit_compile)
    mcmc = ebm.MCMC(kernel, 5, 25, num_chains=50, disable_progbar=True, chain_batch_size=8)
    target = kernel.target((), {}, None)
    mcmc.kernel = ebm.NUTS(target, jit_compile=jit_compile)
    target.numbers_in_memory = 2**22  # starts are looked at four at a time
    energy.most = 0
    mcmc.run()
    assert 0 < energy.most <= 8
    assert mcmc.record.attrs["chain_batch_size"] == 8


# Of a chain 200 thousand numbers are made on the way to the 26 terms of its log density.
WIDE = """
import resource, sys
import pyro, pyro.distributions as dist, torch
import pyro_ebm as ebm

torch.set_num_threads(1)
X, W, y = torch.randn(20, 2), torch.randn(2, 10_000), torch.randn(20)

def net():
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(0.0, 1.0))
    h = torch.tanh(X @ W * a + b)
    with pyro.plate("n", 20):
        pyro.sample("y", dist.Normal(h.mean(-1), 1.0), obs=y)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

kernel = ebm.NUTS(net, max_tree_depth=1)
ebm.MCMC(ebm.NUTS(ebm.DoubleWell(1)), 1, 20, num_chains=32, disable_progbar=True).run()
before = peak()
options = {"num_chains": 60, "chain_batch_size": 1, "disable_progbar": True}
ebm.MCMC(kernel, 1, 1, store=sys.argv[1], **options).run()
print(peak() - before)
"""


def test_memory_is_bounded_by_what_one_evaluation_makes(tmp_path):
    """At the starts of sixty chains and for the sites of a run on disk as well as in between:
    all chains at once would take hundreds of megabytes, the sites' longest piece gigabytes."""
    command = [sys.executable, "-W", "ignore", "-c", WIDE, str(tmp_path / "run.zarr")]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200.0, f"{done.stdout} MB"


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ValueError, match="chain_batch_size"):
        ebm.MCMC(ebm.NUTS(ebm.DoubleWell(1)), 10, chain_batch_size=0)
