"""What is said of a run of several parts is what its parts have in common, or the worst of them."""

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_ebm as ebm
from pyro_ebm.mcmc.api.merging import merged_attributes

OFF = {"auxiliary_exact": False, "auxiliary_shift_error": 0.01, "auxiliary_sweeps": 2}


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ({"warmup_steps": 100}, {"warmup_steps": 200}, {"warmup_steps": 100}),
        ({"gradient_steps": 3}, {"gradient_steps": 4}, {"gradient_steps": 7}),
        ({"num_shards": 3, "missing_shards": [1]}, {"num_shards": 2}, {"num_shards": 5}),
        ({"num_shards": 3}, {"gear": "native"}, {"gear": [None, "native"]}),
        ({"missing_shards": [0, 2]}, {"missing_shards": [0]}, {"missing_shards": 3}),
        ({"gear": "native"}, {"gear": "native"}, {"gear": "native"}),
        ({"seed": 1}, {"seed": 2}, {"seed": [1, 2]}),
        ({**OFF, "auxiliary_shift": 0.1}, {**OFF, "auxiliary_shift": -0.3}, {}),
    ],
    ids=["least", "sum", "shards", "no shards", "missing", "same", "list", "worst"],
)
def test_attributes_are_merged_by_what_they_mean(first, second, whole):
    found = merged_attributes([first, second], {})
    assert {name: found[name] for name in whole} == whole
    assert ("num_shards" in found) == ("num_shards" in whole)
    assert found.get("auxiliary_shift") in (None, -0.3)


def pair(x, coupling):
    return -coupling * x[0] * x[1]


def model(x):
    """Two spins with a coupling that is not known."""
    coupling = pyro.sample("coupling", dist.Normal(0.3, 0.1))
    energy = ebm.EnergyDistribution(pair, (2,), support=ebm.spin, params=(coupling,))
    pyro.sample("x", energy, obs=x)


@pytest.mark.parametrize("stored", [False, True])
def test_a_run_in_shards_with_auxiliary_data_is_judged(stored, tmp_path):
    mcmc = ebm.MCMC(
        ebm.Exchange(model, exact=False),
        60,
        30,
        num_chains=4,
        shard_size=2,
        executor=ebm.SerialExecutor(),
        store=tmp_path / "run" if stored else None,
        disable_progbar=True,
    )
    mcmc.run(torch.tensor([1.0, -1.0]))
    assert mcmc.to_arviz().attrs["auxiliary_sweeps"] == 20
    assert "Auxiliary data are not exact draws" in mcmc.diagnose()
