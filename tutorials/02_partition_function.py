# %% [markdown]
# # The partition function
#
# How strong is a piece of radiata pine? It is broken to find out; or its density is measured, which
# costs nothing. Resin makes wood heavier and no stronger, so that the density may be adjusted for
# it. Which of the two predicts the strength better? Williams (1959), Regression Analysis, gives
# all three for 42 specimens, and the question has been a touchstone of model comparison since
# Carlin and Chib (1995), as the answer is known exactly.
#
# The evidence of a model, the probability of the data under it, is a normaliser: the integral Z of
# prior times likelihood over all that is latent. Annealed importance sampling estimates log Z. Its
# particles start at draws of a **base** whose normaliser is known, move in small steps to the
# target, and collect on the way a weight whose mean is Z.

# %%
import math
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch

import pyro_ebm as ebm

pyro.set_rng_seed(1)
# Log densities are sums over all data: what is subtracted from them here should not be rounding.
torch.set_default_dtype(torch.float64)
pictures = Path("02_partition_function")
pictures.mkdir(exist_ok=True)

# Strength, density and density adjusted for resin: Williams (1959), table 7.1, in his units.
PINE = """
3040,29.2,25.4 2470,24.7,22.2 3610,32.3,32.2 3480,31.3,31.0 3810,31.5,30.9 2330,24.5,23.9
1800,19.9,19.2 3110,27.3,27.2 3670,32.3,29.0 2310,24.0,23.9 4360,33.8,33.2 1880,21.5,21.0
3670,32.2,29.0 1740,22.5,22.0 2250,27.5,23.8 2650,25.6,25.3 4970,34.5,34.2 2620,26.2,25.7
2900,26.7,26.4 1670,21.1,20.0 2540,24.1,23.9 3840,30.7,30.7 3800,32.7,32.6 4600,32.6,32.5
1900,22.1,20.8 2530,25.3,23.1 2920,30.8,29.8 4990,38.9,38.1 1670,22.1,21.3 3310,29.2,28.5
3450,30.1,29.2 3600,31.4,31.4 2850,26.7,25.9 1590,22.1,21.4 3770,30.3,29.8 3850,32.0,30.6
2480,23.2,22.6 3570,30.3,30.3 2620,29.9,23.8 1890,20.8,18.4 3030,33.2,29.4 3030,28.2,28.2
"""
rows = [[float(number) for number in row.split(",")] for row in PINE.split()]
strength, density, adjusted = torch.tensor(rows).T
print(f"{len(strength)} specimens, strength {strength.min():.0f} to {strength.max():.0f}")

# %% [markdown]
# ## Two models
#
# Both are the same straight line, with the same priors, on one density or the other.


# %%
def pine(density, strength):
    precision = pyro.sample("precision", dist.Gamma(3.0, 2 * 300.0**2))
    scale = (precision * torch.tensor([0.06, 6.0])).rsqrt()
    line = pyro.sample("line", dist.Normal(torch.tensor([3000.0, 185.0]), scale).to_event(1))
    mean = line[0] + line[1] * (density - density.mean())
    with pyro.plate("specimen", len(density)):
        pyro.sample("strength", dist.Normal(mean, precision.rsqrt()), obs=strength)


covariates = {"density": density, "adjusted density": adjusted}
# These priors are conjugate, so that for once the answers are known.
exact = {"density": -310.12828553674, "adjusted density": -301.70460213}

annealed = {name: ebm.AIS(pine).run(x, strength) for name, x in covariates.items()}
for name, estimate in annealed.items():
    print(f"{name}: {estimate}; exactly {exact[name]:.4f}")
    print(f"  base: {estimate.details['base']}; reliable: {estimate.reliable}\n  {estimate.why}")

# %% [markdown]
# Nothing had to be chosen. A base was searched for and is named; the temperatures between it and
# the target were learned in rounds of fresh particles, and only the last round counts. An estimate
# prints with its standard error, how many equal weights its own are worth (ESS), and the shape k of
# their tail, which should stay below 0.7.
#
# `plot_path` shows whether the way was even: no step should lose much of the ESS. `plot_works`
# shows the check that matters more. Draws of the target, here by MCMC, are annealed back to the
# base. The works of both directions overlap, and where their densities cross lies log Z.

# %%
ebm.plot_path(annealed["adjusted density"]).savefig(pictures / "path.png")
ebm.plot_works(annealed["adjusted density"]).savefig(pictures / "works.png")

# %% [markdown]
# ## Which model?
#
# If both are equally probable beforehand, the probability afterwards is Z1 / (Z1 + Z2). The errors
# of both estimates are carried through to its interval.

# %%
comparison = ebm.compare_evidence(annealed)
print(comparison)
row = comparison["density"]
ends = f"{row['probability_low']:.3e} to {row['probability_high']:.3e}"
print(f"density has the probability {row['probability']:.3e}, 90 % interval {ends}")
odds = math.exp(exact["adjusted density"] - exact["density"])
print(f"exactly: {1 / (1 + odds):.3e}")

# %% [markdown]
# The resin matters. This says which of the two models predicted the data better with *these*
# priors: where data make a posterior forget its prior, the evidence still knows how wide it was.
#
# ## The same from a run of MCMC
#
# Who has run MCMC anyway has the evidence for a moment more. `bridge_sampling` fits a density to
# half of the draws, and compares it with the other half. Estimates of *one* model by two methods go
# in the same table: there the probabilities mean nothing, and the difference should be within a few
# of its errors.

# %%
mcmc = ebm.MCMC(ebm.NUTS(pine), num_samples=100, warmup_steps=100, num_chains=32)
mcmc.run(adjusted, strength)
bridge = ebm.bridge_sampling(mcmc)
print(ebm.compare_evidence({"annealed": annealed["adjusted density"], "bridge": bridge}))
print(bridge.why)

# %% [markdown]
# ## An estimate that fails, and says so
#
# Two normal bumps at -4 and 4, the right one three times as heavy; Z = 4 sqrt(2 pi). The base sits
# on the lighter one and is far too narrow. Of this energy draws can be made exactly, which is the
# best check there is: `ExactDraws`.


# %%
def bumps(x):
    return -torch.logaddexp(-0.5 * (x + 4).square(), math.log(3) - 0.5 * (x - 4).square())


energy = ebm.as_energy(bumps, event_shape=())
draws = torch.where(torch.rand(512) < 0.75, 4.0, -4.0) + torch.randn(512)


def report(estimate):
    print(f"{estimate}\n  reliable: {estimate.reliable}\n  {estimate.why}")


of_bumps = math.log(4) + 0.5 * math.log(2 * math.pi)
print(f"exactly: {of_bumps:.3f}")
narrow = ebm.AIS(
    energy, base=dist.Normal(-4.0, 0.3), num_particles=512, reverse=ebm.ExactDraws(draws)
).run()
report(narrow)
ebm.plot_works(narrow).savefig(pictures / "works_narrow.png")
low, high = narrow.bounds()
print(f"bounds, each wrong with probability 2.5 % at most: {low:.2f} to {high:.2f}")

# %% [markdown]
# The particles cannot see what is wrong with them: those that never crossed to the right agree with
# one another, and the standard error, which is made of their differences, is far too small. The
# picture shows it at once: works from the target lie where hardly one from the base has come. So
# `reliable` is False, and `why` names what was found. The bounds hold nevertheless; as the draws
# are exact, Markov's inequality is enough for that, and they are as wide as it has to make them.
#
# ## How to mend it
#
# `why` asks for a wider base. One that covers both bumps is enough. Leaving `base` out does as
# well: the search starts chains from dispersed places, and they meet both bumps here.

# %%
mended = ebm.AIS(energy, base=dist.Normal(0.0, 6.0), num_particles=512).run()
report(mended)

# %% [markdown]
# A normaliser, once known, makes a distribution with a `log_prob` that any model can use. Its
# integral is 1 but for the error of log Z.

# %%
normalized = ebm.EnergyDistribution(energy, log_normalizer=float(mended))
grid = torch.linspace(-15.0, 15.0, 2001)
integral = torch.trapezoid(normalized.log_prob(grid).exp(), grid)
print(f"its integral: {integral:.3f}, log Z known to {mended.std_error:.3f}")

# %% [markdown]
# ## An energy without a normaliser
#
# A flat energy has none: its Z is infinite. The particles would give some number, as they are
# finite; so before they start the energy is followed along random rays.

# %%
report(ebm.AIS(ebm.as_energy(lambda x: 0 * x, event_shape=())).run())

# %% [markdown]
# ## What nobody can notice
#
# Now the heavy bump lies at 500, not at 4. No start is near it, no chain comes there, the base does
# not cover it; and without draws from elsewhere every check is passed, by an estimate that has lost
# three quarters of Z.


# %%
def far_apart(x):
    return -torch.logaddexp(-0.5 * x.square(), math.log(3) - 0.5 * (x - 500).square())


print(f"exactly: {of_bumps:.3f}, as before")
report(ebm.AIS(ebm.as_energy(far_apart, event_shape=()), num_particles=512).run())

# %% [markdown]
# That is no defect that more particles would mend: **what neither the base nor any chain has met
# cannot be noticed.** `reliable` means that every check was passed, no more. What helps is
# knowledge from outside: a base as wide as what is possible (for a model its prior), a bounded
# support, starts that are known, draws from elsewhere for `reverse`.

# %%
print(f"The pictures are in {pictures.resolve()}")
