# %% [markdown]
# # Discrete and continuous unknowns together
#
# Which of two groups does a person belong to? Is a pixel ink or paper? Such unknowns have no
# gradient, and most models that have them have continuous unknowns beside: how often members of
# one group meet, how strong the noise is. Pyro sums small discrete sites out. Where they are many
# and all hang together, that is out of reach; then they are drawn, in turns with the continuous
# ones: a trajectory of NUTS at fixed states, a sweep over the states given all else.
#
# ## A club that fell apart
#
# Zachary (1977), An information flow model for conflict and fission in small groups, watched a
# karate club of 34 members for two years, and noted who met whom outside of it. Then the
# instructor and the officers quarrelled, and the club split. Do the friendships alone tell who
# went with whom?

# %%
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pyro
import pyro.distributions as dist
import torch

import pyro_ebm as ebm

torch.set_default_dtype(torch.float64)
pyro.set_rng_seed(5)
pictures = Path("05_mixed_models")
pictures.mkdir(exist_ok=True)

club = nx.karate_club_graph()
members = len(club)
first, second = torch.triu_indices(members, members, 1)
meets = torch.as_tensor(nx.to_numpy_array(club, weight=None))[first, second]
degree = torch.as_tensor([float(club.degree[k]) for k in club])
went = np.array([club.nodes[k]["club"] != "Mr. Hi" for k in club])
print(f"{members} members, {int(meets.sum())} friendships, {went.sum()} left with the officers")

# %% [markdown]
# Members differ in how many friends they have. What that makes probable, k_i k_j / (2 m) of m
# friendships, is multiplied by one factor within a group and by another between the groups (the
# degree-corrected block model: Karrer, Newman (2011), Stochastic blockmodels and community
# structure in networks). The instructor is member 0, and his group is called 0, so that the groups
# have names; the other 33 are to be found out.

# %%
by_chance = degree[first] * degree[second] / degree.sum()


def friendships(meets):
    within = pyro.sample("within", dist.Gamma(2.0, 1.0))
    between = pyro.sample("between", dist.Gamma(2.0, 1.0))
    with pyro.plate("member", members - 1):
        other = pyro.sample("group", dist.Bernoulli(0.5))
    group = torch.cat([torch.zeros(1), other])
    together = group[first] * group[second] + (1 - group[first]) * (1 - group[second])
    factor = together * within + (1 - together) * between
    pyro.sample("meets", dist.Poisson(by_chance * factor).to_event(1), obs=meets)


mcmc = ebm.MCMC(
    ebm.NUTS(friendships, discrete={"group": "sample"}),
    num_samples=400,
    warmup_steps=200,
    num_chains=16,
    disable_progbar=True,
)
mcmc.run(meets)
data = mcmc.to_arviz()
print(az.summary(data, var_names=["within", "between"]))
print(mcmc.diagnose())
print(data.posterior["group"].dtype, data.posterior.attrs["sampled_sites"])

# %% [markdown]
# Friends are several times as likely within a group as between the two. And who is in which?

# %%
probability = np.concatenate([[0.0], data.posterior["group"].mean(["chain", "draw"]).values])
agree = (probability > 0.5) == went
print(f"{agree.sum()} of {members} as it came; against it: {np.flatnonzero(~agree)}")
unsure = np.flatnonzero((probability > 0.1) & (probability < 0.9))
print("unsure:", {int(k): round(float(probability[k]), 2) for k in unsure})
assert agree.mean() > 0.9

place = nx.spring_layout(club, seed=3)
figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
nx.draw_networkx_edges(club, place, ax=axis, edge_color="0.75")
drawn = nx.draw_networkx_nodes(
    club,
    place,
    ax=axis,
    node_color=probability,
    cmap="coolwarm",
    vmin=0.0,
    vmax=1.0,
    edgecolors=["black" if gone else "white" for gone in went],
)
nx.draw_networkx_labels(club, place, ax=axis, font_size=8)
figure.colorbar(drawn, ax=axis, label="probability of the officers' group")
axis.set_title("black rim: went with the officers")
axis.set_axis_off()
figure.savefig(pictures / "club.png", dpi=120)

# %% [markdown]
# ## A noisy picture
#
# An energy may be the prior of a discrete site. Neighbouring pixels of a drawing mostly agree, as
# spins do: the prior is an Ising model, whose normaliser is not needed as nothing in it is unknown.
# The noise is: its strength is a continuous site beside 28 x 28 pixels. (Geman, Geman (1984),
# Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images.)

# %%
side = 28
row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
letter = -torch.ones(side, side)
letter[4:24, 5:9] = 1.0
letter[4:8, 5:22] = 1.0
letter[12:16, 5:18] = 1.0
noisy = letter + 0.9 * torch.randn(side, side)
prior = ebm.EnergyDistribution(ebm.Ising.lattice((side, side), coupling=0.6, periodic=False))


def picture(noisy):
    noise = pyro.sample("noise", dist.HalfNormal(2.0))
    pixels = pyro.sample("pixels", prior)
    pyro.sample("noisy", dist.Normal(pixels, noise).to_event(2), obs=noisy)


mcmc = ebm.MCMC(
    ebm.NUTS(picture), num_samples=150, warmup_steps=150, num_chains=4, disable_progbar=True
)
mcmc.run(noisy)
draws = mcmc.get_samples()
restored = draws["pixels"].mean(0)
wrong = [float(((x > 0) != (letter > 0)).double().mean()) for x in (noisy, restored)]
print(f"noise {float(draws['noise'].mean()):.3f} +- {float(draws['noise'].std()):.3f}, truly 0.9")
print(f"pixels that are wrong: {wrong[0]:.1%} of the noisy picture, {wrong[1]:.1%} when restored")
assert wrong[1] < 0.25 * wrong[0]

figure, axes = plt.subplots(1, 3, figsize=(9.0, 3.3), layout="constrained")
titles = ("what was drawn", "what was seen", "mean of the draws")
for axis, image, title in zip(axes, (letter, noisy, restored), titles, strict=True):
    axis.imshow(image.numpy(), cmap="gray_r", vmin=-2, vmax=2)
    axis.set_title(title)
    axis.set_xticks([])
    axis.set_yticks([])
figure.savefig(pictures / "picture.png", dpi=120)

# %% [markdown]
# The mean of the draws is grey where a pixel might be either, at the edges of the strokes. A
# picture of the most probable configuration would not show that.
#
# What can go wrong: sites that hang together closely are drawn one by one, and mix slowly. With a
# coupling of 2 the pixels would move only as whole strokes, which no single change does; R-hat of
# the energies would tell.
