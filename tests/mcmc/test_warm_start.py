"""A run that goes on from another takes up its step size, metric and last positions."""

import itertools
from typing import Any

import pyro
import pytest
import torch
from torch.distributions import AffineTransform

import pyro_ebm as ebm
from pyro_ebm.mcmc.adaptation import Dense, Diagonal, LowRank
from pyro_ebm.mcmc.metric import inverse_mass_matrix
from pyro_ebm.target import Target

KINDS: dict[str, Any] = {"diagonal": Diagonal(), "dense": Dense(), "low-rank": LowRank(2)}
SCALE = torch.tensor([0.1, 1.0, 10.0])


def run(full_mass: Any, *, warmup_from: ebm.MCMC | None = None, **options: Any) -> ebm.MCMC:
    dtype = options.pop("dtype", torch.float32)
    torch.set_default_dtype(dtype)
    energy = ebm.DiagonalGaussian(torch.zeros(3), SCALE.to(dtype))
    kernel = ebm.NUTS(energy, full_mass=full_mass, max_tree_depth=options.pop("depth", 10))
    warmup = None if warmup_from is not None else 100
    mcmc = ebm.MCMC(kernel, 20, warmup, num_chains=16, warmup_from=warmup_from, **options)
    mcmc.run()
    return mcmc


@pytest.fixture(scope="module")
def finished() -> dict[str, ebm.MCMC]:
    return {name: run(kind) for name, kind in KINDS.items()}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(KINDS, KINDS)))
def test_a_warm_start_makes_its_kind_of_metric_of_any(
    before: str, after: str, finished: dict[str, ebm.MCMC]
):
    mcmc = run(KINDS[after], warmup_from=finished[before], dtype=torch.float64)
    settings = mcmc._state().settings
    found = inverse_mass_matrix(settings.metric)
    assert found.dim() == (1 if after == "diagonal" else 2)
    variance = found if found.dim() == 1 else found.diagonal()
    assert float((variance / SCALE.square()).log().abs().max()) < 1.0
    assert float(mcmc.record.statistics["acceptance_rate"].mean()) > 0.5


def test_a_warm_start_keeps_its_own_depth_of_trees(finished: dict[str, ebm.MCMC]):
    shallow = run(Diagonal(), warmup_from=finished["diagonal"], depth=1)
    assert int(shallow.record.statistics["tree_depth"].max()) == 1
    deep = run(Diagonal(), warmup_from=shallow)
    assert int(deep.record.statistics["tree_depth"].max()) > 1


def test_a_warm_start_where_the_density_vanishes_is_refused(finished: dict[str, ebm.MCMC]):
    walled = ebm.EnergyDistribution(
        lambda x: torch.where(x[0] > -1e6, torch.inf, 0.0 * x.sum()), (3,)
    )
    mcmc = ebm.MCMC(ebm.NUTS(walled), 5, num_chains=4, warmup_from=finished["diagonal"])
    with pytest.raises(ValueError, match="last positions of warmup_from"):
        mcmc.run()


def test_a_warm_start_from_other_sites_is_refused(finished: dict[str, ebm.MCMC]):
    energy = ebm.DiagonalGaussian(torch.zeros(3), SCALE)
    named = ebm.EnergyDistribution(energy, (3,))

    def model() -> None:
        pyro.sample("y", named)

    mcmc = ebm.MCMC(ebm.NUTS(model), 5, num_chains=4, warmup_from=finished["diagonal"])
    with pytest.raises(ValueError, match=r"sites x \(3,\) and this model y \(3,\)"):
        mcmc.run()


def test_a_warm_start_from_other_coordinates_is_refused(finished: dict[str, ebm.MCMC]):
    target = Target.from_energy(ebm.DiagonalGaussian(torch.zeros(3), SCALE))
    halved = target.transported(AffineTransform(torch.zeros(3), 2.0, event_dim=1))
    mcmc = ebm.MCMC(ebm.NUTS(halved), 5, num_chains=4, warmup_from=finished["diagonal"])
    with pytest.raises(ValueError, match="through another flow or none"):
        mcmc.run()
    first = ebm.MCMC(ebm.NUTS(halved), 5, 20, num_chains=4)
    first.run()
    ebm.MCMC(ebm.NUTS(halved), 5, num_chains=4, warmup_from=first).run()
