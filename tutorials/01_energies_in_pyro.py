# %% [markdown]
# # Energies in Pyro
#
# In the National Longitudinal Survey of Youth 434 children of three and four years took a test, and
# their mothers an IQ test. How does a child's score follow the mother's IQ? The data are known from
# Gelman and Hill (2006), Data Analysis Using Regression and Multilevel/Hierarchical Models, where
# the answer is a straight line. Here the curve is left open: we say only that it bends little and
# does not fall. No distribution says so; an energy does, in a line each.
#
# An **energy** is any function E(x) that gives a real number, and stands for the density
# proportional to exp(-E(x)/T). What is unlikely costs energy; the temperature T says how much of it
# is tolerated.

# %%
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer.autoguide import AutoNormal, init_to_median

import pyro_ebm as ebm
from pyro_ebm import plots

pyro.set_rng_seed(1)
pictures = Path("01_energies_in_pyro")
pictures.mkdir(exist_ok=True)

# Mother's IQ, rounded, and behind the colon the scores of her children.
KIDIQ = """
71:57 73:52 74:41 75:49,50,93,101 77:43,44,61,61,74,76,82 78:42,54,73,75 79:42,54,80,81,95
80:40,42,56,58,58,59,60,71,76,77,107,110 81:42,52,56,58,80,86,123 82:41,46,50,54,57,78,80,88,102
83:38,45,60,65,65,68,86,93 84:20,46,62,68,76,78,79,88,94,96,104 85:65,74,83,83,83,85,87,90,94,96
86:50,76,84,87,88,94,103 87:49,52,80,81,86,87,90,92,94,100,100,104 88:67,78,91,92
89:43,58,61,62,67,73,75,83,84,84,84,87,87,89,91,94,98,107,110,111
90:70,74,75,88,89,92,92,94,94,98,101,102,104,106,113,117 91:61,66,69,70,73,84,86,89,96,120
92:41,56,69,76,80,83,94,99,105,106,107 93:47,63,64,64,64,69,76,78,89,90,92,95,98,100,105,115
94:77,83,86,95 95:50,56,56,58,95,106,110 96:58,73,76,81,84,94,95,100,107,122
97:67,82,85,85,87,88,90,92,95,100,101,109 98:42,42,50,68,78,97,99,100,102,106
99:52,64,65,72,75,83,83,86,87,91,92,98,98,99,102,110,111,112 100:78,82,87,94,95,106,121
101:58,72,72,79,79,83,85,87,92,98,102,102,119
102:56,60,63,64,83,90,94,97,99,100,101,108,113,120,130 103:86,92,95,97,104,107,114,116
104:68,73,92,107,112,119 105:87,90,104,112 106:95,97,116 107:52,77,86,90,91,91,100,102,104,104
108:46,68,76,78,87,98,100,109,136 109:69,87,96,97,101,106,122 110:56,67,86,88,90,98,102,117
111:102,103,109,119 112:42,49,79,95,99,106 113:58,99,100,102,108,113,114
114:78,81,89,97,98,98,102,113 115:81,82,85,102,136 116:73,77,79,87,97,97,104 117:85,94,100,103,108
118:93,94,104,109,109 119:94,95,97,98 120:90,103,110,113 121:65,74,93,94,101,121 122:69,96,100,109
123:99,106,109 124:104,114 125:104,104,106,110 126:64,94,102,104,104,108 127:86,111,115
128:84,93,94,94,102,112 129:89,110,116 130:113 131:72 132:89,99 133:99,106,144 134:105,105,126
135:96 136:105,111 137:104 139:69
"""
pairs = [
    (int(iq), int(score))
    for iq, _, scores in (entry.partition(":") for entry in KIDIQ.split())
    for score in scores.split(",")
]
iq, score = torch.tensor(pairs, dtype=torch.float).T
lowest, width, num_groups = 70, 5, 14
group = ((iq - lowest) / width).long()
middles = lowest + width * (np.arange(num_groups) + 0.5)
print(f"{len(score)} children; mothers per group: {torch.bincount(group).tolist()}")

# %% [markdown]
# ## Plain Pyro: groups that do not know their neighbours
#
# Fourteen groups of mothers, five points of IQ each, and a level of the score for each group. The
# usual model draws the levels from one normal distribution. It shrinks a group of three mothers to
# the mean of *all* groups, wherever on the scale it lies: the order of the groups is lost on it.


# %%
def exchangeable(group, score=None):
    centre = pyro.sample("centre", dist.Normal(90.0, 20.0))
    spread = pyro.sample("spread", dist.HalfNormal(20.0))
    noise = pyro.sample("noise", dist.HalfNormal(30.0))
    with pyro.plate("group", num_groups):
        offset = pyro.sample("offset", dist.Normal(0.0, 1.0))
        level = pyro.deterministic("level", centre + spread * offset, event_dim=0)
    with pyro.plate("child", len(group)):
        pyro.sample("score", dist.Normal(level[..., group], noise), obs=score)


def run(model, **options):
    kernel = ebm.NUTS(model, target_accept_prob=0.9, **options)
    mcmc = ebm.MCMC(kernel, num_samples=60, warmup_steps=100, num_chains=128)
    mcmc.run(group, score)
    print(mcmc.diagnose(), "\n")
    return mcmc


plain = run(exchangeable, init_strategy=init_to_median).to_arviz(coords={"group": middles})

# %% [markdown]
# `MCMC` and `NUTS` take Pyro's arguments. All 128 chains move together in one process and share
# what they learn in warm-up, so that each may be short. `diagnose()` says in words whether they
# agree, how many independent draws they are worth, and what to do where something is wrong.
# `to_arviz()` gives ArviZ data; the plate has named the axis.
#
# ## Two energies
#
# `bending` is large where the slope changes between neighbours, `falling` where a group lies below
# the one before. `energy_factor` multiplies the model by exp(-E/T). Both energies are in points
# squared, and so is T: at T = 2 a kink of sqrt(T/2) = 1 point is usual and one of 4 is rare; at
# T = 0.5 a fall of half a point is usual. The levels themselves only get a wide prior. Neighbours
# now move together, so NUTS gets a dense inverse mass matrix.


# %%
def bending(level):
    return (level[2:] - 2 * level[1:-1] + level[:-2]).square().sum()


def falling(level):
    return (level[:-1] - level[1:]).clamp(min=0.0).square().sum()


def rising_curve(group, score=None):
    noise = pyro.sample("noise", dist.HalfNormal(30.0))
    with pyro.plate("group", num_groups):
        level = pyro.sample("level", dist.Normal(90.0, 30.0))
    ebm.energy_factor("bending", bending, level, temperature=2.0)
    ebm.energy_factor("falling", falling, level, temperature=0.5)
    with pyro.plate("child", len(group)):
        pyro.sample("score", dist.Normal(level[..., group], noise), obs=score)


curve = run(rising_curve, init_strategy=init_to_median, full_mass=True).to_arviz(
    coords={"group": middles}
)
print(az.summary(curve, var_names=["level"], kind="stats").to_string())
for name, energies in curve["energies"].items():
    print(f"energy of {name} at the draws: {float(energies.mean()):.1f} points squared")


# %%
def draw_band(panel, data, label, colour):
    level = data["posterior"]["level"]
    low, high = (level.quantile(share, ("chain", "draw")) for share in (0.05, 0.95))
    panel.fill_between(middles, low, high, color=colour, alpha=0.25, linewidth=0)
    mean = level.mean(("chain", "draw"))
    panel.plot(middles, mean, "o-", color=colour, label=label, markersize=4)


figure, panel = plt.subplots(figsize=(7, 4.2), layout="constrained")
panel.plot(iq, score, ".", color="0.75", markersize=4, label="a child")
draw_band(panel, plain, "groups exchangeable: mean, 5 to 95 %", "tab:orange")
draw_band(panel, curve, "with the two energies: mean, 5 to 95 %", "tab:blue")
panel.set(xlabel="mother's IQ (points)", ylabel="child's test score (points)", ylim=(15, 150))
panel.legend(frameon=False, fontsize=8)
figure.savefig(pictures / "curve.png", dpi=120)
plots.plot_rank(curve, ["noise"]).savefig(pictures / "ranks.png")

# %% [markdown]
# At both ends, where mothers are few, the plain model bends towards the middle; the energies borrow
# from the neighbours instead. Which predicts left-out children better? The pointwise log likelihood
# is in the ArviZ data, so leave-one-out cross-validation is one call: `elpd_diff` is how much worse
# a model predicts all 434 children together, and `dse` its standard error.

# %%
comparison = az.compare({"exchangeable": plain, "two energies": curve})
print(comparison[["rank", "elpd_loo", "p_loo", "elpd_diff", "dse"]].to_string())

# %% [markdown]
# ## How much bending? The normaliser that must not be forgotten
#
# The temperature was chosen by hand. Let us learn it: the typical `kink`, with T = 2 kink^2,
# becomes a latent variable, and the curve a latent site of its own, an `EnergyDistribution`.


# %%
def learned(log_normalizer):
    def model(group, score=None):
        kink = pyro.sample("kink", dist.Gamma(8.0, 4.0))
        prior = ebm.EnergyDistribution(
            bending, (num_groups,), temperature=2 * kink**2, log_normalizer=log_normalizer
        )
        level = pyro.sample("level", prior)
        noise = pyro.sample("noise", dist.HalfNormal(30.0))
        with pyro.plate("child", len(group)):
            pyro.sample("score", dist.Normal(level[..., group], noise), obs=score)

    return model


try:
    run(learned(None), full_mass=True)
except ValueError as refusal:
    print("Refused:", refusal, "\n")

# %% [markdown]
# The normaliser Z(T) of the curve's prior depends on `kink`. Leaving it out would give another
# posterior without a word, so it is refused, in stock Pyro as well, and the message names the ways
# out. Here Z is known. The twelve second differences are free Gaussian directions, each with the
# integral sqrt(pi T); the two directions that cost nothing, level and slope, give a constant.


# %%
def log_normalizer(temperature):
    return (num_groups - 2) / 2 * torch.log(torch.pi * temperature)


right = run(learned(log_normalizer), full_mass=True).to_arviz(coords={"level_dim_0": middles})

# %% [markdown]
# What would have come out without it? `energy_factor` takes a latent temperature, because a *joint*
# energy needs no normaliser: it is simply another model. The kink's own distribution is not the
# Gamma any more, since every curve becomes cheaper as the temperature rises.


# %%
def joint(group, score=None):
    kink = pyro.sample("kink", dist.Gamma(8.0, 4.0))
    noise = pyro.sample("noise", dist.HalfNormal(30.0))
    with pyro.plate("group", num_groups):
        level = pyro.sample("level", dist.Normal(90.0, 30.0))
    ebm.energy_factor("bending", bending, level, temperature=2 * kink**2)
    with pyro.plate("child", len(group)):
        pyro.sample("score", dist.Normal(level[..., group], noise), obs=score)


other = run(joint, init_strategy=init_to_median, full_mass=True).to_arviz()

figure, panel = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
for data, label, colour in (
    (right, "prior over curves, with log Z(T)", "tab:blue"),
    (other, "joint energy, without it", "tab:orange"),
):
    kink = np.asarray(data["posterior"]["kink"]).ravel()
    print(f"{label}: kink {kink.mean():.1f} points on average")
    panel.hist(kink, bins=60, range=(0, 9), density=True, alpha=0.5, label=label, color=colour)
grid = np.linspace(0.01, 9, 200)
density = dist.Gamma(8.0, 4.0).log_prob(torch.tensor(grid)).exp()
panel.plot(grid, density, color="black", linewidth=1, label="Gamma(8, 4) in the model")
panel.set(xlabel="typical kink (points)", ylabel="density (1 / point)")
panel.legend(frameon=False, fontsize=8)
figure.savefig(pictures / "kink.png", dpi=120)

# %% [markdown]
# The data hardly know of any kink, and leave the prior nearly as it was; the joint energy says
# twice as much, out of nothing but its missing normaliser.
#
# ## The same model under stock Pyro
#
# Energies are ordinary sites, so all of Pyro works on them: guides, SVI, `Predictive`.

# %%
guide = AutoNormal(rising_curve, init_loc_fn=init_to_median)
svi = pyro.infer.SVI(rising_curve, guide, pyro.optim.Adam({"lr": 0.05}), pyro.infer.Trace_ELBO())
losses = [svi.step(group, score) for _ in range(400)]
print(f"SVI, minus ELBO: {losses[0]:.0f} at first, {np.mean(losses[-50:]):.0f} in the end")
print(f"The pictures are in {pictures.resolve()}")
