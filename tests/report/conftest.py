"""A small run and a small estimate, as files."""

import pyro
import pytest

import pyro_ebm as ebm

from ..mcmc.sharded_run import begun


def written(data, path):
    data.to_netcdf(str(path), engine="h5netcdf")
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """By name: two runs of one model, the first on disk too, and an estimate of log Z."""
    folder = tmp_path_factory.mktemp("runs")
    first = begun(store=folder / "first.zarr", num_samples=60)
    found = {"store": folder / "first.zarr", "first": written(first.to_arviz(), folder / "a.nc")}
    pyro.set_rng_seed(4)
    second = ebm.MCMC(first.kernel, 60, 25, num_chains=4, disable_progbar=True)
    second.run(*[first.record.target.described.args[0]])
    found["second"] = written(second.to_arviz(), folder / "b.nc")
    pyro.set_rng_seed(5)
    estimate = ebm.AIS(ebm.Ising.lattice((3, 3)), disable_progbar=True).run()
    found["estimate"] = written(estimate.to_arviz(), folder / "z.nc")
    found["log_z"] = estimate
    return found
