# %% [markdown]
# # Learning an energy, and generating from it
#
# Any net with one real output is a model: low is likely. To learn it from data is to lower the
# energy where data are, and to raise it where the model itself would put them. Two stories: a
# small restricted Boltzmann machine that learns handwritten digits, whose likelihood can be had
# exactly, and a net that learns a shape in the plane, of whose likelihood nothing is known
# beforehand. Then a table, by a model that chooses for itself.
#
# ## Digits
#
# The 1,797 images that come with scikit-learn, 8x8 pixels, ink or no ink.

# %%
from pathlib import Path

import numpy as np
import pyro
import torch
from sklearn.datasets import load_breast_cancer, load_digits, make_moons
from torch import nn
from torch.distributions import Independent, Normal

import pyro_ebm as ebm

pyro.set_rng_seed(6)
pictures = Path("06_learn_and_generate")
pictures.mkdir(exist_ok=True)

images = torch.as_tensor(load_digits().images / 16.0, dtype=torch.float32)
ink = (images > 0.5).float().reshape(-1, 64)
order = torch.randperm(len(ink))
training, held_out = ink[order[:1500]], ink[order[1500:]]
print(f"{len(training)} images to learn from, {len(held_out)} held out")

# %% [markdown]
# E(v, h) = -b'v - c'h - v'Wh has 64 visible and 12 hidden units. `marginal()` sums the hidden ones
# out, which leaves an energy of images. With b at the log odds of the pixels and W near zero it
# begins as the model of independent pixels, which is the figure to beat.
#
# The negative phase is 100 lasting chains, a sweep of Gibbs sampling each at every step: persistent
# contrastive divergence. As the machine is small, log Z is known exactly, and the held-out log
# likelihood is written down in nats while learning goes on.

# %%
often = training.mean(0).clamp(0.01, 0.99)
machine = ebm.RBM(
    nn.Parameter(0.05 * torch.randn(64, 12)),
    nn.Parameter((often / (1 - often)).log()),
    nn.Parameter(torch.zeros(12)),
)
pixels = machine.marginal()
before = ebm.held_out_log_likelihood(pixels, held_out)
steps = 3000
learned = ebm.fit(
    pixels,
    training,
    ebm.PersistentContrastiveDivergence(num_chains=100),
    num_steps=steps,
    batch_size=100,
    held_out=held_out,
    optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.02),
    scheduler=lambda adam: torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.01, steps),
)
print(learned)
after = ebm.held_out_log_likelihood(pixels, held_out)
print(f"independent pixels {before.mean:.2f}, the machine {after.mean:.2f} ± {after.std_error:.2f}")
assert after.mean > before.mean + 4.0
ebm.plot_learning(learned).savefig(pictures / "learning_digits.png")

# %% [markdown]
# ### Ten times as many
#
# The chains of learning are draws already; a longer run from random states shows that nothing is
# copied. Of equally many images that were learned from and that were not, generated ones are as
# often nearer to the latter when nothing was learned by heart: a share of one half.

# %%
generated = pixels.exact_sample((10 * len(training),))
assert generated is not None
ebm.plot_samples(held_out.reshape(-1, 8, 8), generated[: len(held_out)].reshape(-1, 8, 8)).savefig(
    pictures / "digits.png"
)
near = ebm.nearest_neighbour_share(generated, training, held_out)
print(
    f"nearer to the images it learned from: {100 * near.share:.0f} ± {100 * near.std_error:.0f} %"
)

# %% [markdown]
# ### Is that log Z right?
#
# Annealed importance sampling does not know that the machine is small. It finds the same number,
# and says how far off it may be.

# %%
estimate = ebm.AIS(ebm.EnergyDistribution(machine)).run()
exact = float(machine.log_normalizer().detach())
print(f"annealed {estimate}, exact {exact:.3f}")
assert abs(estimate.log_z - exact) < 4 * estimate.std_error + 1e-3

# %% [markdown]
# ## A shape in the plane
#
# Two half moons, and a net of two layers, tilted from a wide Gaussian so that it can be normalised.
# Noise-contrastive estimation tells data from the noise of that Gaussian; it learns log Z with the
# net, and takes no chains.

# %%
points, _ = make_moons(4000, noise=0.08, random_state=0)
points = torch.as_tensor((points - points.mean(0)) / points.std(0), dtype=torch.float32)
moons, others = points[:3000], points[3000:]
wide = Independent(Normal(torch.zeros(2), 1.5), 1)
net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
shape = ebm.Tilted(net, wide)
trained = ebm.fit(
    shape,
    moons,
    ebm.NoiseContrastive(noise=wide, ratio=4),
    num_steps=2500,
    batch_size=256,
    held_out=others,
    optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3),
    scheduler=lambda adam: torch.optim.lr_scheduler.CosineAnnealingLR(adam, 2500),
)
print(trained)
ebm.plot_landscape(shape, moons).savefig(pictures / "landscape.png")

# %% [markdown]
# The log Z that was learned is only as good as the classifier. On two numbers quadrature has the
# true one.

# %%
axis = torch.linspace(-5.0, 5.0, 801)
grid = torch.cartesian_prod(axis, axis)
with torch.no_grad():
    by_quadrature = float((-shape(grid)).double().logsumexp(0) + 2 * np.log(0.0125))
print(f"log Z learned {trained.log_z:.3f}, by quadrature {by_quadrature:.3f}")
score = ebm.held_out_log_likelihood(shape, others, log_z=by_quadrature)
print(f"held out: {score.mean:.3f} ± {score.std_error:.3f} nats a point")

# %% [markdown]
# New points come from MCMC: many chains, each from its own start, with ArviZ to say how far they
# can be trusted. Are they like the points that were held out? A classifier is asked; one half is
# the answer of a classifier that cannot tell.

# %%
chains = ebm.MCMC(ebm.NUTS(shape), num_samples=50, warmup_steps=200, num_chains=256)
chains.run()
print(chains.diagnose())
new = chains.get_samples()["x"][::4]
ebm.plot_samples(others, new).savefig(pictures / "moons.png")
told = ebm.classifier_two_sample_test(new, others, repeats=3)
print("told apart:", {name: f"{values.mean():.3f}" for name, values in told.accuracies.items()})

# %% [markdown]
# ## A table, and no wish to choose
#
# 569 tumours, thirty numbers each. `EnergyModel` follows scikit-learn's conventions: it makes the
# columns bell-shaped, fits a mixture, and lets a net tilt it where rows held out support that.
# With a few hundred rows they seldom do, and it says so.

# %%
tumours = load_breast_cancer()
order = np.random.RandomState(0).permutation(len(tumours.data))
half = len(order) // 2
known, unknown = tumours.data[order[:half]], tumours.data[order[half : 2 * half]]
table = ebm.EnergyModel(random_state=0).fit(known)
print(table.trained_.why)
print(f"held out: {table.score(unknown):.2f} nats a row; log Z {table.log_z_}")

# %% [markdown]
# Ten times as many rows, and the two questions again: can they be told from rows held out, and do
# they lie nearer to those that were learned from? Some of that remains of any fit to few rows: a
# Gaussian with the mean and the covariance of as many normal rows is the yardstick.

# %%
larger = table.sample(10 * len(unknown))
accuracy = ebm.classifier_two_sample_test(larger, unknown, repeats=3)
nearer = ebm.nearest_neighbour_share(larger, known, unknown)
print("told apart:", {name: f"{mean:.3f}" for name, mean in accuracy.mean.items()})
print(f"nearer to the rows it learned from: {nearer}")
normal, other = np.random.RandomState(0).randn(2, *known.shape)
gaussian = np.random.RandomState(1).multivariate_normal(normal.mean(0), np.cov(normal.T), 2000)
print(f"a Gaussian of normal rows: {ebm.nearest_neighbour_share(gaussian, normal, other)}")
assert accuracy.mean["5 neighbours"] < 0.65

# %% [markdown]
# The same model fills in what is missing, given the rest of each row, and says which rows are
# strange: here, tumours whose measurements were swapped with those of another.

# %%
holes = np.where(np.random.RandomState(1).rand(*unknown.shape) < 0.3, np.nan, unknown)
filled = table.impute(holes)
gone = np.isnan(holes)
spread = known.std(0)
error = np.sqrt(np.square((filled - unknown) / spread)[gone].mean())
by_mean = np.sqrt(np.square((known.mean(0) - unknown) / spread)[gone].mean())
print(f"filled in with an error of {error:.2f} spreads; by the mean {by_mean:.2f}")
assert error < 0.7 * by_mean

swapped = unknown.copy()
swapped[:, :10] = np.roll(unknown[:, :10], 1, axis=0)
right, wrong = table.anomaly_score(unknown), table.anomaly_score(swapped)
found = (wrong[:, None] > right).mean()
print(f"a row of two halves is stranger than a whole one in {100 * found:.0f} % of the pairs")
assert found > 0.9

# %% [markdown]
# ## What a learning rate that is too high does
#
# Learning is watched. A run that diverges ends with a sentence, and the net keeps the parameters
# that were the last good ones.

# %%
import warnings  # noqa: E402

wild = ebm.Tilted(nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 1)), wide)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ebm.DivergedWarning)
    lost = ebm.fit(
        wild,
        moons,
        ebm.PersistentContrastiveDivergence(),
        num_steps=300,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=3.0),
    )
print(lost.why)
assert lost.diverged
assert all(bool(value.isfinite().all()) for value in wild.parameters())
