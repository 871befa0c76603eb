"""Chains evaluated some at a time make the draws that they make together, in less memory."""

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
    target.numbers_per_run = 2**22  # starts are looked at four at a time
    energy.most = 0
    mcmc.run()
    assert 0 < energy.most <= 8
    assert mcmc.record.attrs["chain_batch_size"] == 8


def test_a_size_that_is_none_is_refused():
    with pytest.raises(ValueError, match="chain_batch_size"):
        ebm.MCMC(ebm.NUTS(ebm.DoubleWell(1)), 10, chain_batch_size=0)
