# %% [markdown]
# # Latent variables behind pictures
#
# A picture of a digit has 64 pixels, and few ways to be a digit: which one, how slanted, how thick.
# A latent-variable model says so. A few numbers z are drawn from a prior, a net decodes them to a
# picture, and noise is added. Usually the prior is a round Gaussian cloud, and the net must tear it
# into ten pieces. Pang, Han, Nijkamp, Zhu, Wu (2020), Learning latent space energy-based prior
# model, learn the prior too, as an energy:
#
#     p(z) = exp(-E(z)) N(z; 0, 1) / Z,     x = decoder(z) + noise.
#
# The digits are those of Alpaydin, Kaynak (1998), Optical recognition of handwritten digits, which
# scikit-learn brings along: 1797 pictures of 8 x 8 pixels.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import pyro_ebm as ebm

pyro.set_rng_seed(7)
torch.set_num_threads(1)
pictures = Path("07_latent_variables_and_deep_models")
pictures.mkdir(exist_ok=True)

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.data))
x = torch.as_tensor(digits.data[order] / 16.0, dtype=torch.float32)
label = digits.target[order]
train, test = x[:1500], x[1500:]
print(f"{len(train)} pictures to learn from, {len(test)} held out")

# %% [markdown]
# ## Learn the decoder and the prior together
#
# Nobody knows the z of a picture. `fit` keeps a chain over the posterior of every one, and chains
# over the prior; at each step the decoder learns to draw the pictures from where their chains are,
# and the energy to be low there, and high where the chains of the prior have strayed.

# %%
latent_dim = 8
decoder = nn.Sequential(nn.Linear(latent_dim, 128), nn.SiLU(), nn.Linear(128, 64))
model = ebm.LatentEnergyModel(
    decoder,
    latent_dim=latent_dim,
    likelihood=ebm.GaussianLikelihood(0.3),
    objective=ebm.PersistentContrastiveDivergence(steps=2, num_chains=256),
)
fitted = model.fit(
    train,
    num_steps=1100,
    optimizer=lambda p: torch.optim.Adam(p, lr=4e-3),
    disable_progbar=True,
)
print(fitted)
history = fitted.history
figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.2), layout="constrained")
axes[0].plot(history["step"], history["log_likelihood"])
axes[0].set_ylabel("log p(x | z) of a batch (nats)")
axes[1].plot(history["step"], history["gap"])
axes[1].axhline(0.0, color="black", linewidth=0.8, linestyle=":")
axes[1].set_ylabel("gap of energies (nats)")
for axis in axes:
    axis.set_xlabel("step")
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig(pictures / "learning.png", dpi=120)

# %% [markdown]
# The gap on the right is what to watch, the mean energy of the prior's chains less that of the
# latents of data: it stays near zero where the prior has learned where data live.
#
# ## New digits
#
# Draws of the prior, decoded. Beside them what the round cloud N(0, 1) decodes to, with the same
# decoder: much of it lies between the digits, where the energy is high.

# %%
new = model.sample(40)
with torch.no_grad():
    cloud = model.given(torch.randn(40, latent_dim)).mean


def sheet(axis, rows, title, columns=10):
    tiles = rows.reshape(-1, columns, 8, 8).clamp(0, 1).numpy()
    padded = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.5)
    image = padded.transpose(0, 2, 1, 3).reshape(len(tiles) * 9, columns * 9)
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()


figure, axes = plt.subplots(1, 3, figsize=(12.0, 2.2), layout="constrained")
for axis, rows, title in zip(
    axes,
    (test[:40], new.means, cloud),
    ("digits that were held out", "new ones, from the energy prior", "from the round cloud"),
    strict=True,
):
    sheet(axis, rows, title)
figure.savefig(pictures / "new_digits.png", dpi=120)


# %% [markdown]
# How good are they? A classifier that was taught on real digits says how far each picture is from
# its nearest real one.

# %%
near = KNeighborsClassifier(1).fit(train, label[:1500])
many = model.sample(500).means
with torch.no_grad():
    round_ones = model.given(torch.randn(500, latent_dim)).mean
distances = {
    name: float(np.median(near.kneighbors(rows)[0]))
    for name, rows in (("held out", test), ("energy prior", many), ("round cloud", round_ones))
}
kinds = np.bincount(near.predict(many), minlength=10) / 5.0
print("median distance to the nearest real digit:", {k: round(v, 2) for k, v in distances.items()})
print("percent of each digit among the new ones:", kinds)
assert distances["energy prior"] < distances["round cloud"]

# %% [markdown]
# ## What the latents know
#
# `latents` draws from the posterior of each picture and tells how well its chains agree. The labels
# were never shown to the model; a nearest-neighbour rule on eight latents tells the digits apart
# nearly as well as one on 64 pixels.

# %%
held_out = model.latents(test, num_samples=30, warmup_steps=40, num_chains=2)
print(held_out)
of_train = fitted.latents
by_latents = KNeighborsClassifier(5).fit(of_train, label[:1500]).score(held_out.mean, label[1500:])
by_pixels = KNeighborsClassifier(5).fit(train, label[:1500]).score(test, label[1500:])
print(f"digits told apart: {by_latents:.1%} by latents, {by_pixels:.1%} by pixels")
assert by_latents > 0.85

# %% [markdown]
# A bound on the likelihood of digits that were held out, in nats, with log Z by annealed importance
# sampling.

# %%
bound = model.likelihood_bound(test[:50], num_particles=100)
print(bound)

# %% [markdown]
# ## Completing a picture
#
# The lower half of a digit is hidden: its pixels leave the likelihood, and nothing else changes.
# The posterior of z given the upper half is what the picture can still be; each draw is decoded to
# a whole one. Where halves go with several digits (what begins like a 3 may end as a 9), the draws
# differ.

# %%
upper = torch.arange(64) < 32
chosen = test[[int(np.flatnonzero(label[1500:] == digit)[0]) for digit in range(10)]]
guesses = model.latents(chosen, observed=upper, num_samples=20, warmup_steps=60, num_chains=4)
with torch.no_grad():
    completions = model.given(guesses.draws[:, -1]).mean
hidden = torch.where(upper, chosen, torch.full_like(chosen, 0.5))
figure, axis = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
sheet(axis, torch.cat([chosen, hidden, *completions]), "whole, what is seen, four guesses")
figure.savefig(pictures / "completions.png", dpi=120)

halves = test[:60]
filled = model.reconstruct(halves, observed=upper, num_samples=30, warmup_steps=40, num_chains=4)
error = float((filled - halves)[:, ~upper].square().mean().sqrt())
plain = float((train.mean(0) - halves)[:, ~upper].square().mean().sqrt())
print(f"error of hidden pixels: {error:.3f} completed, {plain:.3f} by the mean picture")
assert error < plain

# %% [markdown]
# What can go wrong: chains that lag. Where the gap grows and stays, take more `posterior_steps`, a
# smaller learning rate, or chains of the prior that make more transitions
# (`objective=PersistentContrastiveDivergence(steps=5)`). An encoder infers at once where chains are
# too slow, `LatentEnergyModel(..., encoder=net)`; the same model and guide go into Pyro's SVI as
# `model.model` and `model.guide`.
