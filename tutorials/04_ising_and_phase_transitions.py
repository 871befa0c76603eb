# %% [markdown]
# # Ising spins and a phase transition
#
# Iron loses its magnetism at 1043 kelvin: below, its atoms agree on a direction over macroscopic
# distances, above they do not. Ising (1925), Beitrag zur Theorie des Ferromagnetismus, asked
# whether neighbours that merely like to agree can do that. On a square lattice they can, and
# Onsager (1944), Crystal statistics, found the temperature: T = 2 / log(1 + sqrt 2) = 2.269, in
# units of the coupling.
#
# A configuration has one spin, -1 or +1, at every site, and the energy is minus the number of
# neighbours that agree plus the number of those that do not. Here we look at it, cool it, heat it,
# and hold what we find against exact curves; in the end we look for the lowest energies of spins
# that cannot all be content.

# %%
import warnings
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch

import pyro_ebm as ebm

torch.set_default_dtype(torch.float64)
pyro.set_rng_seed(4)
pictures = Path("04_ising_and_phase_transitions")
pictures.mkdir(exist_ok=True)

CRITICAL = 2.0 / np.log(1.0 + np.sqrt(2.0))

# %% [markdown]
# ## Three temperatures
#
# An energy over states is sampled like any other: `MCMC` takes a kernel, and `auto_kernel` chooses
# one and says why. All these bonds want equal neighbours, so whole clusters can be turned at once,
# which is what keeps chains from standing still near the transition.

# %%
snapshots = {}
for temperature in (1.8, CRITICAL, 3.5):
    spins = ebm.EnergyDistribution(ebm.Ising.lattice((48, 48)), temperature=temperature)
    kernel = ebm.auto_kernel(spins)
    run = ebm.MCMC(kernel, num_samples=20, warmup_steps=30, num_chains=4, disable_progbar=True)
    run.run()
    snapshots[temperature] = run.get_samples()["x"]
    magnetisation = snapshots[temperature].mean((1, 2)).abs().mean()
    print(f"T = {temperature:.3f}: mean |magnetisation| {float(magnetisation):.3f}")
print(type(kernel).__name__, "-", kernel.why)

figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), layout="constrained")
for axis, (temperature, spins) in zip(axes, snapshots.items(), strict=True):
    axis.imshow(spins[-1].numpy(), cmap="Blues", vmin=-1.5, vmax=1.0, interpolation="nearest")
    axis.set_title(f"T = {temperature:.3f}")
    axis.set_xticks([])
    axis.set_yticks([])
figure.savefig(pictures / "configurations.png", dpi=120)

# %% [markdown]
# Cold spins agree nearly everywhere, hot ones hardly further than to their neighbours, and at the
# critical temperature there are islands of every size.
#
# Are the chains to be trusted? The same questions as ever, asked of discrete draws. The sign of the
# magnetisation is as free as a coin; single-site updates would need an age to turn it.

# %%
small = ebm.EnergyDistribution(ebm.Ising.lattice((8, 8)), temperature=CRITICAL)
for kernel in (ebm.Gibbs(small), ebm.SwendsenWang(small)):
    run = ebm.MCMC(kernel, num_samples=200, warmup_steps=50, num_chains=16, disable_progbar=True)
    run.run()
    mean = run.to_arviz().posterior["x"].mean(["x_dim_0", "x_dim_1"])
    ess, rhat = az.ess(mean)["x"].item(), az.rhat(mean)["x"].item()
    print(f"{type(kernel).__name__:13s} magnetisation: ESS {ess:5.0f} of 3200, R-hat {rhat:.3f}")

# %% [markdown]
# ## All temperatures from one run
#
# `thermodynamics` lets ladders of replicas reach from infinite temperature, where the normaliser is
# known (2 for every spin), to the lowest temperature of the grid. All their draws together are then
# reweighted to every temperature between. With k_B = 1, F = -T log Z, U is the mean of E,
# S = (U - F)/T and C = dU/dT. On this lattice Kaufman (1949) wrote down log Z in closed form;
# `log_normalizer` has it, and its derivatives are the red lines.

# %%
energy = ebm.Ising.lattice((8, 8))
temperatures = torch.linspace(1.5, 3.5, 21)
phases = ebm.thermodynamics(energy, temperatures, disable_progbar=True)
print(phases[["log_z", "log_z_error", "heat_capacity", "heat_capacity_error"]].to_dataframe()[::5])
print("reliable:", bool(phases.attrs["reliable"]), "-", phases.attrs["why"])


def exact(energy, temperatures):
    beta = (1.0 / temperatures).requires_grad_()
    log_z = energy.log_normalizer(1.0 / beta)
    (slope,) = torch.autograd.grad(log_z.sum(), beta, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), beta)
    found = {
        "free_energy": -temperatures * log_z,
        "internal_energy": -slope,
        "entropy": log_z - slope / temperatures,
        "heat_capacity": curvature / temperatures**2,
    }
    return {name: values.detach().numpy() for name, values in found.items()}


known = exact(energy, temperatures)
shown = [*known, "magnetization", "susceptibility"]
figure = ebm.plot_thermodynamics(phases, names=shown, exact=known)
figure.savefig(pictures / "thermodynamics.png", dpi=120)
for name, values in known.items():
    score = (phases[name].values - values) / phases[f"{name}_error"].values
    print(f"{name:16s} largest deviation {np.abs(score).max():.1f} standard errors")
    assert np.abs(score).max() < 4.5

# %% [markdown]
# The heat capacity has a peak where the spins make up their minds. On a finite lattice it is round;
# the larger the lattice, the higher and the nearer to the critical temperature it stands.
#
# Binder's cumulant finds that temperature from small lattices. It is 2/3 where all agree and 0
# where all is chance, the more sharply the larger the lattice, so that curves of two sizes cross
# near the transition: the nearer, the larger they are.

# %%
near = torch.linspace(2.0, 2.6, 7)
figure, axis = plt.subplots(figsize=(6.0, 3.8), layout="constrained")
for length in (4, 8):
    found = ebm.thermodynamics(ebm.Ising.lattice((length, length)), near, disable_progbar=True)
    axis.errorbar(
        near.numpy(),
        found.binder_cumulant.values,
        yerr=2 * found.binder_cumulant_error.values,
        marker="o",
        markersize=3.5,
        capsize=2,
        label=f"{length} x {length}",
    )
axis.axvline(CRITICAL, color="black", linewidth=0.8, linestyle=":")
axis.set_xlabel("temperature T")
axis.set_ylabel("Binder's cumulant, ± 2 errors")
axis.legend(frameon=False)
figure.savefig(pictures / "binder.png", dpi=120)

# %% [markdown]
# ## What can go wrong, and how it is told
#
# A run that is too short says so. Four ladders cannot make an error that means much, and eight
# sweeps let hardly a replica come from the base to the target.

# %%
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    hasty = ebm.thermodynamics(
        energy, [1.5, 2.5], num_ladders=4, num_sweeps=8, disable_progbar=True
    )
print("reliable:", bool(hasty.attrs["reliable"]), "-", hasty.attrs["why"])
assert told
assert not hasty.attrs["reliable"]

# %% [markdown]
# ## The lowest energy
#
# Where bonds of either sign are drawn at random, no configuration makes all of them content:
# Sherrington, Kirkpatrick (1975), Solvable model of a spin-glass. Of 20 spins there are a million
# configurations, and enumeration tells the lowest. `minimize` anneals 64 chains and goes down from
# where they end; it tells how many of them came to which minimum.

# %%
normal = torch.randn(20, 20, generator=torch.Generator().manual_seed(20)).triu(1) / 20**0.5
glass = ebm.Ising(normal + normal.T)
lowest = ebm.minimize(glass)
enumerated = ebm.exact_enumeration(glass, temperature=0.01)
print(lowest)
print(f"by enumeration: {float(enumerated.mean_energy):.6f}")
assert abs(float(lowest.energies[0]) - float(enumerated.mean_energy)) < 1e-3

# %% [markdown]
# The two lowest are mirror images: turning all spins changes no energy. What enumeration does for
# 20 spins it cannot do for 60; annealing can, though then nobody can tell but by running it again
# from other starts whether something lower is left.
