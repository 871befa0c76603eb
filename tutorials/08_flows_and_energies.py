# %% [markdown]
# # Flows and energies
#
# A normalising flow is a learned bijection of Gaussian noise: its density and its draws are exact,
# but it can only bend and stretch what it began with. An energy may be anything, but its normaliser
# is not known, and draws of it cost a Markov chain. Here each helps the other: a flow learns a
# table; it is the noise from which an energy learns what the flow missed; and it shows samplers
# and annealing a terrible funnel in coordinates in which it is round.
#
# ## A table
#
# Ten measurements each of the cells of 569 tumours (Street, Wolberg, Mangasarian (1993), Nuclear
# feature extraction for breast tumor diagnosis). 400 are learned from, a fifth of them to say when
# to stop; 169 are seen by nobody until they judge. A flow without its own judges would learn the
# rows by heart.

# %%
import math
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
import zuko
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

import pyro_ebm as ebm
from pyro_ebm.diagnostics import ess_bulk, split_rhat

pyro.set_rng_seed(8)
pictures = Path("08_flows_and_energies")
pictures.mkdir(exist_ok=True)

table = load_breast_cancer()
names = [name.removeprefix("mean ") for name in table.feature_names[:10]]
cells = torch.as_tensor(table.data[:, :10], dtype=torch.float32)
cells = cells[torch.randperm(len(cells))]
training, unseen = cells[:400], cells[400:]

# %% [markdown]
# Two flows: one learns, for every column, a mean and a scale given the columns before it; the other
# does so three times over, each time in another order. The figure to beat is a Gaussian with
# correlations. Columns keep their units, so a nat has no absolute meaning here, but the differences
# do.

# %%
gaussian = MultivariateNormal(training.double().mean(0), training.double().T.cov())
with torch.no_grad():
    beaten = float(gaussian.log_prob(unseen.double()).mean())
print(f"Gaussian:            {beaten:.2f} nats a row that it has not seen")

flows, nats = {}, {}
for name, transforms in (("one transform", 1), ("three transforms", 3)):
    fitted = ebm.fit_flow(
        training,
        zuko.flows.MAF(10, transforms=transforms, hidden_features=(64, 64)),
        held_out=0.2,
        epochs=80,
        patience=20,
        batch_size=64,
        optimizer=partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01),
    )
    flows[name] = fitted.distribution
    with torch.no_grad():
        nats[name] = fitted.distribution.log_prob(unseen).double()
    error = float(nats[name].std()) / math.sqrt(len(unseen))
    print(
        f"{name + ':':20s} {float(nats[name].mean()):.2f} ± {error:.2f}, "
        f"best after epoch {fitted.best}"
    )
assert nats["three transforms"].mean() > beaten + 1.0

# %% [markdown]
# Nats say how probable unseen rows are; can rows that the flow makes up be told from them? A
# classifier that cannot tell is right half of the time. Boosted trees look at columns and
# thresholds, neighbours at distances.

# %%
for name, flow in {"Gaussian": gaussian, **flows}.items():
    made = flow.sample((1000,)).float()
    told = ebm.classifier_two_sample_test(made, unseen, repeats=3)
    print(f"{name + ':':20s} {told}")
made = flows["three transforms"].sample((1000,))
ebm.plot_samples(unseen, made, names=names).savefig(pictures / "cells.png")

# %% [markdown]
# ## An energy on top of a flow
#
# What is left over between data and flow? `Tilted(net, flow)` is the density flow(x) exp(-E(x)): a
# net that is zero gives the flow back. With the flow itself as noise, noise-contrastive estimation
# shows the net rows of data and rows of the flow, to be told apart. What it learns is the very
# error of the flow, and log Z beside.
#
# log Z is easily checked: it is the log of the mean of exp(-E) over draws of the flow. What counts
# is the gain on rows that neither has seen, with that log Z.


# %%
class Standardised(nn.Module):
    """The columns as the flow sees them."""

    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, x):
        return (x - self.flow.loc) / self.flow.scale


def net_over(flow):
    layers = nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
    return nn.Sequential(Standardised(flow), *layers)


gains = {}
for name, flow in flows.items():
    net = net_over(flow)
    energy = ebm.Tilted(net, flow)
    learned = ebm.fit(
        energy,
        training,
        ebm.NoiseContrastive(noise=flow, ratio=4),
        num_steps=300,
        batch_size=100,
        held_out=0.2,
        look_every=20,
        optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.1),
        scheduler=lambda adam: torch.optim.lr_scheduler.CosineAnnealingLR(adam, 300),
    )
    with torch.no_grad():
        weights = -net(flow.sample((10_000,))).squeeze(-1).double()
        log_z = float(weights.logsumexp(0)) - math.log(len(weights))
        gain = -net(unseen).squeeze(-1).double() - log_z
    error = math.sqrt(float((weights - log_z).exp().var()) / len(weights))
    gains[name] = (float(gain.mean()), float(gain.std()) / math.sqrt(len(gain)))
    print(
        f"{name + ':':20s} log Z learned {learned.log_z:.3f}, by importance sampling "
        f"{log_z:.3f} ± {error:.3f}; the energy gains {gains[name][0]:+.3f} ± {gains[name][1]:.3f}"
    )
assert gains["one transform"][0] > 2 * gains["one transform"][1]

# %% [markdown]
# The poor flow gains by an energy; of the better one little is left to gain, and 400 rows are soon
# used up. Poor flow and energy together do not make up for the better flow: the energy is worth its
# while where a flow cannot go, not where it was merely too small.
#
# ## A base for annealing
#
# Neal's funnel: v ~ N(0, 3^2), and nine numbers N(0, e^v), now a hundredth wide, now a hundred. Its
# log Z is known. Annealed importance sampling from a Gaussian hardly sees the wide end; a second
# pass, backwards from draws of the target, is there to notice. A flow that was fitted to the
# density itself, with no draws of it, is nearly there before anything is annealed.

# %%
funnel = ebm.Funnel(10)
exact = float(funnel.log_normalizer())
flow = ebm.fit_flow_to_target(
    funnel,
    flow=zuko.flows.RealNVP(10, transforms=4, hidden_features=(64, 64)),
    epochs=15,
    optimizer=partial(torch.optim.Adam, lr=2e-3),
)
bases = {
    "a Gaussian": Independent(Normal(torch.zeros(10), 1.0), 1),
    "a flow": flow.distribution,
}
estimates = {}
for name, base in bases.items():
    estimates[name] = ebm.AIS(funnel, base=base, num_particles=512, disable_progbar=True).run()
    print(f"from {name}: {estimates[name]}, exact {exact:.3f}")
    print("  reliable:", estimates[name].reliable, "-", estimates[name].why)
assert not estimates["a Gaussian"].reliable
assert abs(estimates["a flow"].log_z - exact) < 4 * estimates["a flow"].std_error

# %% [markdown]
# ## NUTS in round coordinates
#
# One step size is too long for the neck of the funnel or too short for its mouth. `transported`
# takes the same target in the coordinates of the flow's own Gaussian. The log determinant is in the
# density, so that the draws are those of the funnel, however good the flow is: one that fits makes
# them cheap. (Hoffman et al. (2019), NeuTra-lizing bad geometry in Hamiltonian Monte Carlo using
# neural transport.)

# %%
draws = {}
for name, target in (("plain", funnel), ("through the flow", ebm.transported(funnel, flow))):
    run = ebm.MCMC(
        ebm.NUTS(target), num_samples=200, warmup_steps=200, num_chains=16, disable_progbar=True
    )
    run.run()
    draws[name] = run.get_samples(group_by_chain=True)["x"].double().numpy()
    v = draws[name][..., :1]
    print(
        f"{name + ':':17s} v has ESS {float(np.min(ess_bulk(v))):.0f} of {v.size}, "
        f"R-hat {float(np.max(split_rhat(v))):.3f}, standard deviation {v.std():.2f} for a true 3"
    )
    print("  ", run.diagnose())
v = draws["through the flow"][..., :1]
assert float(np.max(split_rhat(v))) < 1.02
assert abs(v.mean()) < 4 * v.std() / math.sqrt(float(np.min(ess_bulk(v))))

figure, axes = plt.subplots(
    1, 3, figsize=(9.5, 3.6), sharex=True, sharey=True, layout="constrained"
)
known = funnel.exact_sample((3200,)).numpy()
shown = {"exact draws": known, **{f"NUTS, {name}": x.reshape(-1, 10) for name, x in draws.items()}}
for axis, (title, x) in zip(axes, shown.items(), strict=True):
    axis.plot(x[:, 1], x[:, 0], ".", markersize=2.5, alpha=0.3, color="#1f5f8b")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("x1")
    axis.set_xscale("symlog", linthresh=1.0)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("v")
figure.savefig(pictures / "funnel.png", dpi=120)
