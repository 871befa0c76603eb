"""Estimates in shards by a worker process, as a program that prints log Z of each.

The tests' own process has its functions wrapped to check shapes, and these cannot be sent.
"""

import json

import pyro
import torch

import pyro_ebm as ebm

ISING = ebm.Ising.lattice((3, 3))
OPTIONS = {
    "AIS": {"num_particles": 2500},
    "SMC": {"num_particles": 3072, "num_islands": 12},
}


def estimate(method, executor, energy=ISING, **options) -> ebm.LogZ:
    pyro.set_rng_seed(4)
    return method(energy, executor=executor, disable_progbar=True, **options).run()


def of_well(executor) -> ebm.LogZ:
    return estimate(ebm.AIS, executor, ebm.DoubleWell(2), reverse=False, num_particles=1500)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with ebm.WorkerProcesses(1) as workers:
        found = {n: estimate(getattr(ebm, n), workers, **OPTIONS[n]).log_z for n in OPTIONS}
        well = of_well(workers).log_z
    here = of_well(ebm.SerialExecutor())
    truth = float(ebm.DoubleWell(2).log_normalizer())
    print(json.dumps({**found, "well": [well, here.log_z, here.std_error, truth]}))
