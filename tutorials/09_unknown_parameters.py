# %% [markdown]
# # Parameters of an energy, and the normaliser that moves with them
#
# An energy with parameters theta has the density f(x; theta) / Z(theta). As long as theta is fixed,
# Z is a constant that nobody needs. When theta is to be learned from data it is not: log Z(theta)
# is a part of the likelihood, and seldom known. Such posteriors are called doubly
# intractable. What happens if Z is forgotten, and what can be done?
#
# ## Who married whom in Florence
#
# Sixteen families of Renaissance Florence and the twenty marriages between them (Padgett, Ansell
# (1993), Robust action and the rise of the Medici). Are two families that both married into a third
# more likely to marry each other? An exponential random graph asks that: the probability of a graph
# is proportional to exp(theta_1 edges + theta_2 triangles).

# %%
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

import pyro_ebm as ebm

torch.set_default_dtype(torch.float64)
pyro.set_rng_seed(9)
pictures = Path("09_unknown_parameters")
pictures.mkdir(exist_ok=True)

florence = nx.florentine_families_graph()
florence.add_node("Pucci")  # a family without a marriage to the others
families = len(florence)
marriages = torch.as_tensor(nx.to_numpy_array(florence))
triangles = sum(nx.triangles(florence).values()) // 3
print(f"{families} families, {florence.number_of_edges()} marriages, {triangles} triangles")

figure, axis = plt.subplots(figsize=(7.0, 4.6), layout="constrained")
place = nx.spring_layout(florence, seed=4, k=0.7)
nx.draw_networkx(florence, place, ax=axis, node_color="0.85", edge_color="0.4", font_size=8)
axis.set_axis_off()
axis.set_title("marriages between sixteen families")
figure.savefig(pictures / "florence.png", dpi=120)

# %% [markdown]
# ## What goes wrong when Z is forgotten
#
# With edges alone the dyads are independent, all is known, and the mistake can be seen. Twenty of
# 120 possible marriages mean theta near log(20/100) = -1.61. Without Z the likelihood is
# exp(20 theta), which wants as many edges as the prior allows.

# %%
theta = torch.linspace(-4.0, 92.0, 9601)
log_prior = dist.Normal(0.0, 2.0).log_prob(theta)
dyads = families * (families - 1) // 2
right = log_prior + 20 * theta - dyads * torch.nn.functional.softplus(theta)
forgotten = log_prior + 20 * theta
width = theta[1] - theta[0]
figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for log_density, label in ((right, "with Z(theta)"), (forgotten, "Z(theta) forgotten")):
    density = log_density.softmax(0) / width
    print(f"{label}: mean {float((density * theta).sum() * width):.2f}")
    axis.plot(theta, density, label=label)
axis.set_xlim(-4, 92)
axis.set_xlabel("coefficient of edges")
axis.set_ylabel("posterior density")
axis.legend()
figure.savefig(pictures / "forgotten.png", dpi=120)

# %% [markdown]
# Nothing in the second curve looks broken: it is a clean bell, and it is nonsense. So a site whose
# log Z depends on another latent site and is not known is refused.


# %%
def network(marriages):
    edges = pyro.sample("edges", dist.Normal(0.0, 5.0))
    triangles = pyro.sample("triangles", dist.Normal(0.0, 5.0))
    graph = ebm.ExponentialRandomGraph(len(marriages), edges=edges, triangles=triangles)
    pyro.sample("graph", ebm.EnergyDistribution(graph), obs=graph.configuration(marriages))


try:
    ebm.MCMC(ebm.NUTS(network), num_samples=10).run(marriages)
except ValueError as refusal:
    print(refusal)

# %% [markdown]
# ## The first way out: auxiliary networks
#
# `Exchange` proposes new coefficients, draws a network from the model at these, and accepts by a
# ratio in which Z cancels. Networks of sixteen families are too many to list, so they are drawn by
# Gibbs sampling that begins at the observed one. That is an approximation, and the run measures it.

# %%
mcmc = ebm.MCMC(
    ebm.Exchange(network, sweeps=8, bridges=2),
    num_samples=120,
    warmup_steps=80,
    num_chains=32,
    disable_progbar=True,
)
mcmc.run(marriages)
data = mcmc.to_arviz()
print(az.summary(data))
print(mcmc.diagnose())

# %% [markdown]
# The auxiliary networks are not what the model says at all draws: longer chains from the observed
# network come to others, and chains that begin at the complete network stay there. A complete
# network has 120 edges and 560 triangles, and log Z of all sparse ones is near
# 120 log(1 + exp(-1.7)) = 20: from a triangle coefficient of some (120 * 1.7 + 20) / 560 = 0.4 on
# the one complete network outweighs them all. Gibbs chains from a sparse network do not get there
# for a long time, so the auxiliary networks stay sparse, and what is sampled here is the posterior
# among models of sparse networks. So it is wherever auxiliary chains are short beside the life of
# such a state. The maximum likelihood of simulations from the observed network is edges -1.675 +-
# 0.35 and triangles 0.158 +- 0.58 (statnet's ergm), among sparse networks too.
#
# ## The second way out: log Z as a function
#
# With log Z(theta) as a function the model is an ordinary one, and NUTS samples it.
# `log_normalizer_surface` makes the function, from replicas of the network at many coefficients
# times s, for s from near 0 to 1. At s = 0 all dyads are independent, and from there both kinds of
# network are reached without a jump: sparse ones where triangles count little, dense ones where
# they count much. Neighbours swap their networks, so that none has to go from one kind to the other
# where both are likely. The energy is linear in its coefficients: the draws tell how many networks
# there are of every number of edges and triangles, and with that log Z everywhere in the box.


# %%
def energy(x, edges, triangles):
    return ebm.ExponentialRandomGraph(families, edges=edges, triangles=triangles)(x)


kind = {"event_shape": (dyads,), "support": constraints.boolean}
low, high = [-3.0, -2.5], [0.0, 1.0]
surface = ebm.log_normalizer_surface(energy, low, high, **kind, num_chains=4, num_sweeps=100)
print(surface)

# %% [markdown]
# log Z along the coefficient of triangles is two lines, one of each kind of network, and the kink
# is where the complete one takes over.

# %%
along = torch.linspace(-0.5, 0.9, 281)
at_edges = torch.full_like(along, -1.675)
figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
axis.plot(along, surface(at_edges, along, 1.0), label="log Z")
axis.plot(along, 120 * -1.675 + 560 * along, "--", color="0.6", label="the complete network alone")
axis.set_ylim(10, 80)
axis.set_xlabel("coefficient of triangles, at edges -1.675")
axis.legend()
figure.savefig(pictures / "kink.png", dpi=120)


# %%
def with_surface(marriages):
    edges = pyro.sample("edges", dist.Normal(0.0, 5.0))
    triangles = pyro.sample("triangles", dist.Normal(0.0, 5.0))
    graph = ebm.ExponentialRandomGraph(families, edges=edges, triangles=triangles)
    fn = ebm.EnergyDistribution(graph, log_normalizer=surface.at(edges, triangles))
    pyro.sample("graph", fn, obs=graph.configuration(marriages))


start = {"edges": torch.full((32,), -1.6), "triangles": torch.zeros(32)}
nuts = ebm.MCMC(
    ebm.NUTS(with_surface, target_accept_prob=0.95, jit_compile=False),
    num_samples=200,
    warmup_steps=150,
    num_chains=32,
    initial_params=start,
    disable_progbar=True,
)
nuts.run(marriages)
print(az.summary(nuts.to_arviz()))
print(nuts.diagnose())

# %% [markdown]
# Beyond the kink the density falls by exp(5) for every hundredth of a coefficient. For NUTS that is
# a wall, and the transitions that run into it are told as divergent. Whether that harms can be seen
# here, since two coefficients need no chains: a grid gives the same posterior.

# %%
grid = torch.meshgrid(
    torch.linspace(low[0], high[0], 121), torch.linspace(low[1], high[1], 281), indexing="ij"
)
log_density = 20 * grid[0] + 3 * grid[1] - surface(*grid, 1.0)
log_density = log_density - (grid[0].square() + grid[1].square()) / (2 * 5.0**2)
weights = log_density.flatten().softmax(0).reshape(grid[0].shape)
print("mode:", [round(float(values.flatten()[log_density.argmax()]), 3) for values in grid])
for name, values in zip(("edges", "triangles"), grid, strict=True):
    mean = float((weights * values).sum())
    sd = float((weights * (values - mean).square()).sum().sqrt())
    seen = float(nuts.get_samples()[name].mean())
    print(f"{name}: on the grid {mean:.3f} +- {sd:.3f}, by NUTS {seen:.3f}")
    assert abs(seen - mean) < 0.3 * sd

# %% [markdown]
# Below the kink the two posteriors agree, and above it only that with auxiliary networks goes on.
# The other is right: above the kink the model is one of nearly complete networks, and the observed
# one would be a miracle. The maximum likelihood lies below the kink, and its standard error reaches
# beyond. Either way, families that share an in-law are not seen to marry more, nor less.

# %%
posterior = {
    label: {name: run.get_samples()[name].reshape(-1) for name in ("edges", "triangles")}
    for label, run in (("auxiliary networks", mcmc), ("log Z as a function", nuts))
}
beyond = {}
for label, draws in posterior.items():
    sparse = 120 * torch.nn.functional.softplus(draws["edges"])
    complete = 120 * draws["edges"] + 560 * draws["triangles"]
    beyond[label] = float((complete > sparse + 15).double().mean())
print("share of draws at which the complete network rules:", beyond)
assert beyond["log Z as a function"] < 0.01 < beyond["auxiliary networks"]
figure, axis = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
for label, draws in posterior.items():
    axis.plot(draws["edges"], draws["triangles"], ".", markersize=2, alpha=0.3, label=label)
axis.plot(-1.675, 0.158, "k+", markersize=14, label="maximum likelihood")
axis.axhline(0.0, color="0.7", zorder=0)
axis.set_xlabel("edges")
axis.set_ylabel("triangles")
axis.legend()
figure.savefig(pictures / "posterior.png", dpi=120)

# %% [markdown]
# ## The third: a list
#
# Six families around the Medici have 2^15 possible networks: `listed_log_normalizer` lists them
# once, and sorts them by their numbers of edges and triangles. Then log Z is exact, and so is the
# check of what a surface says.

# %%
inner = ["Medici", "Barbadori", "Ridolfi", "Tornabuoni", "Albizzi", "Ginori"]
small = torch.as_tensor(nx.to_numpy_array(florence.subgraph(inner), nodelist=inner))


def small_energy(x, edges, triangles):
    return ebm.ExponentialRandomGraph(6, edges=edges, triangles=triangles)(x)


kind = {"event_shape": (15,), "support": constraints.boolean}
listed = ebm.listed_log_normalizer(small_energy, 2, **kind)
print(f"{2**15} networks, {len(listed.log_counts)} different (edges, triangles)")
low, high = [-2.5, -2.0], [1.0, 0.5]
small_surface = ebm.log_normalizer_surface(
    small_energy, low, high, **kind, num_chains=8, num_sweeps=100
)
print(small_surface)


def small_network(log_normalizer):
    # The prior lies within the box of the surface.
    edges = pyro.sample("edges", dist.Uniform(low[0], high[0]))
    triangles = pyro.sample("triangles", dist.Uniform(low[1], high[1]))
    params = (edges, triangles)
    observed = ebm.ExponentialRandomGraph(6, edges=0.0).configuration(small)
    graph = ebm.EnergyDistribution(
        small_energy, params=params, log_normalizer=log_normalizer, **kind
    )
    pyro.sample("graph", graph, obs=observed)


draws = {}
for label, log_normalizer in (("from the list", listed), ("on the surface", small_surface)):
    by_nuts = ebm.MCMC(
        ebm.NUTS(small_network, jit_compile=False),
        num_samples=100,
        num_chains=24,
        disable_progbar=True,
    )
    by_nuts.run(log_normalizer)
    draws[label] = by_nuts.get_samples()
    print(label, {name: round(float(x.mean()), 3) for name, x in draws[label].items()})

figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
for axis, name in zip(axes, ("edges", "triangles"), strict=True):
    for label, samples in draws.items():
        axis.hist(samples[name].numpy(), bins=40, histtype="step", density=True, label=label)
    axis.set_xlabel(name)
axes[0].set_ylabel("posterior density")
axes[0].legend()
figure.savefig(pictures / "two_functions.png", dpi=120)
means = [torch.stack([d[n].mean() for n in ("edges", "triangles")]) for d in draws.values()]
assert float((means[0] - means[1]).abs().max()) < 0.25

# %% [markdown]
# ## What to look for, and what can go wrong
#
# - *Auxiliary chains that are too short.* `diagnose()` compares them with chains four times as
#   long, from the data and from elsewhere. If it says that a mean is off, raise `sweeps`; if it
#   says that there are several kinds of data, only log Z tells how much each of them weighs.
# - *A box that is too small.* Outside of it the density is zero; draws that crowd at its border say
#   so.
# - *Parameters at which the model is two models.* With many triangles asked for, networks are
#   nearly empty or nearly complete, and a chain does not get from one to the other. The list shows
#   where: the mean number of edges as triangles get more likely.

# %%
coefficient = torch.linspace(-1.0, 2.5, 141, requires_grad=True)
figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for edges in (-1.0, -2.0, -3.0):
    at = torch.full_like(coefficient, edges).detach().requires_grad_()
    (mean,) = torch.autograd.grad(listed(at, coefficient, 1.0).sum(), at)
    axis.plot(coefficient.detach(), mean, label=f"edges {edges:g}")
axis.set_xlabel("coefficient of triangles")
axis.set_ylabel("mean number of edges, of 15")
axis.legend()
figure.savefig(pictures / "two_models.png", dpi=120)
print(
    f"steepest: {float(np.gradient(mean.numpy(), coefficient.detach().numpy()).max()):.1f} a unit"
)

# %% [markdown]
# The steeper the curve, the closer two coefficients are whose networks look nothing alike, and the
# less a network drawn at one says of the other. There bridges help (`bridges=`), and so does a
# prior that keeps away.
