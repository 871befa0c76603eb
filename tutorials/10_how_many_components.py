# %% [markdown]
# # How many components?
#
# In 1990 Roeder asked whether galaxies are spread evenly or gather in clusters with voids between:
# if they cluster, the velocities at which 82 of them in the region of Corona Borealis recede from
# us have a density with several modes. A mixture of Gaussians describes it. But of how many?
#
# More components always fit better. The **evidence**, the probability of the data averaged over all
# that a mixture could have been before them, does not always rise with them.

# %%
from pathlib import Path

import arviz as az
import pyro
import torch

import pyro_ebm as ebm

pyro.set_rng_seed(1)
torch.set_default_dtype(torch.float64)
pictures = Path("10_how_many_components")
pictures.mkdir(exist_ok=True)

# In 1000 km/s: Postman, Huchra, Geller (1986); Roeder (1990), table 1.
VELOCITIES = """
9.172 9.35 9.483 9.558 9.775 10.227 10.406 16.084 16.17 18.419 18.552 18.6 18.927 19.052
19.07 19.33 19.343 19.349 19.44 19.473 19.529 19.541 19.547 19.663 19.846 19.856 19.863 19.914
19.918 19.973 19.989 20.166 20.175 20.179 20.196 20.215 20.221 20.415 20.629 20.795 20.821 20.846
20.875 20.986 21.137 21.492 21.701 21.814 21.921 21.96 22.185 22.209 22.242 22.249 22.314 22.374
22.495 22.746 22.747 22.888 22.914 23.206 23.241 23.263 23.484 23.538 23.542 23.666 23.706 23.711
24.129 24.285 24.289 24.366 24.717 24.99 25.633 26.96 26.995 32.065 32.789 34.279
"""
velocities = torch.tensor([float(number) for number in VELOCITIES.split()])
print(f"{len(velocities)} velocities, {velocities.min():.1f} to {velocities.max():.1f}")

# %% [markdown]
# ## What is believed beforehand
#
# Means lie about the mean of the data and are twice as wide; a component has on average half of
# their variance; all weights are alike probable. That is `MixturePrior.of(data)`. It looks at the
# data for nothing but their units.

# %%
prior = ebm.MixturePrior.of(velocities)
print(prior)

# %% [markdown]
# ## The evidence of each number
#
# Gibbs chains draw from the posterior. States of half of them make a density that is near to it,
# and this and the draws of the other half tell the evidence together (bridge sampling); particles
# annealed from the prior only check that nothing was missed. All K! orders of the components
# count, so that nothing is off by log K!. BIC is scikit-learn's, at the maximum of the likelihood.

# %%
found = ebm.GaussianMixture.select(velocities, range(1, 5))
print(found)
print(f"most probable: {found.most_probable}; lowest BIC: {found.lowest_bic}")
ebm.plot_components(found).savefig(pictures / "components.png")
ebm.plot_density([found.posteriors[k] for k in (1, 2, 3, 4)]).savefig(pictures / "densities.png")

# %% [markdown]
# One and two are out of the question; between three and more the data hardly decide, and that is an
# answer: the intervals are those of the estimates, and the probabilities differ little. The
# densities of three components and of four are nearly the same. BIC knows nothing of the prior, and
# its maximum likelihoods count components that sit on a few galaxies.
#
# ## Names of components
#
# The posterior is the same in every order of the components: averaged over orders, all have the
# same mean. Here components of every draw are named so that the memberships of the galaxies agree
# best with their average (Stephens 2000), and then numbered by their mean. Only then a component is
# something that can be summarised.

# %%
three = found.posteriors[3]
print(three)
print(az.summary(three.to_arviz(), var_names=["weight", "mean"], kind="stats").to_string())
shuffled = torch.rand(three.mean.shape[:3]).argsort(-1)
mixed = three.mean[..., 0].gather(-1, shuffled)
print("means of components in any order:", [f"{m:.1f}" for m in mixed.mean((0, 1))])

# %% [markdown]
# ## Does it find what is there?
#
# Data simulated from three components should be found to have three. They are, though not by far: a
# small fourth component is never out of the question.

# %%
loc, scale = torch.tensor([-4.0, 0.0, 5.0]), torch.tensor([0.8, 1.0, 1.2])
which = torch.randint(3, (100,))
simulated = loc[which] + scale[which] * torch.randn(100)
check = ebm.GaussianMixture.select(simulated, range(2, 5))
print(check)
print(f"most probable: {check.most_probable}")

# %% [markdown]
# ## What can go wrong
#
# **The evidence depends on the prior**, however many data there are. Means that may lie ten times
# as far out make every further component dearer, by about log 10. This is no matter of the
# algorithm: who asks for a number of components has to say what a component is.

# %%
center, variance = float(velocities.mean()), float(velocities.var())
wide = ebm.MixturePrior(center, 20.0 * variance**0.5, 3.0, variance)
print(ebm.GaussianMixture.select(velocities, (2, 3), prior=wide))

# %% [markdown]
# **An estimate may not be reliable**, and the table says which: where importance sampling alone
# comes to another log Z, where few draws carry it, where chains remember where they began, or where
# particles annealed from the prior find more than the chains. More particles (`num_particles=`)
# help against the first two. What speaks for an estimate or against it is a sentence:

# %%
print(found.evidence[4].why)
print(f"The pictures are in {pictures.resolve()}")
