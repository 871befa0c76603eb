# %% [markdown]
# # Many chains
#
# Eight schools coached their pupils for a test. Rubin (1981), Estimation in parallel randomized
# experiments, has the gains of each and their standard errors; how much do the schools differ?
#
# Who samples with four chains waits for long ones: a chain is judged by itself, and to tell whether
# it has arrived takes hundreds of draws. Here chains are cheap, since all of them make a step in
# one operation. So the draws can come from thousands of chains, a few from each, and other
# questions can be asked of them.

# %%
import tempfile
import time
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch

import pyro_ebm as ebm
from pyro_ebm.diagnostics import nested_rhat

pyro.set_rng_seed(3)
pictures = Path("03_many_chains")
pictures.mkdir(exist_ok=True)

gain = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
error = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def schools(error, gain):
    mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
    spread = pyro.sample("spread", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(gain)):
        unit = pyro.sample("unit", dist.Normal(0.0, 1.0))
        pyro.sample("gain", dist.Normal(mean + spread * unit, error), obs=gain)


def run(num_chains, num_samples, warmup_steps=150, **options):
    mcmc = ebm.MCMC(ebm.NUTS(schools), num_samples, warmup_steps, num_chains=num_chains, **options)
    mcmc.run(error, gain)
    return mcmc


# %% [markdown]
# ## From four to four thousand
#
# The same number of draws, from ever more chains. What a chain must do before it counts, the
# warm-up, is made by all of them together, and they learn from one another: the step size and the
# metric come from the draws of all.

# %%
for num_chains, num_samples in ((4, 2048), (64, 128), (1024, 8), (4096, 2)):
    began = time.perf_counter()
    mcmc = run(num_chains, num_samples)
    seconds = time.perf_counter() - began
    spread = mcmc.get_samples()["spread"]
    steps = mcmc.record.attrs["gradient_steps"]
    print(
        f"{num_chains:5} chains of {num_samples:4} draws: {seconds:4.1f} s, {steps:6} steps, "
        f"spread {float(spread.mean()):.2f}"
    )

# %% [markdown]
# A step costs little more for a thousand chains than for four, until the arithmetic itself counts.
# With four chains nearly all steps are for draws; with four thousand nearly all are warm-up.
#
# ## What short chains can be asked
#
# Sixteen draws of a chain say nothing of *that* chain. R-hat compares the spread within chains
# with the spread between them, and within so short a chain there is hardly any. Nested R-hat asks
# the groups instead. From 128 chains on, eight starting points are drawn, far apart, and an eighth
# of the chains begins at each. If the groups have forgotten where they began, their means differ
# by no more than so many draws must; if not, it shows. ArviZ's ESS misleads on such chains too, so
# the number of draws is taken from what the means of chains scatter.

# %%
many = run(1024, 16)
data = many.to_arviz()
draws = data.posterior["spread"].values
groups = data.sample_stats["superchain"].values[:, 0]
print(f"R-hat of chains: {float(az.rhat(data.posterior['spread'])['spread']):.3f}")
print(f"nested R-hat: {float(nested_rhat(draws, groups)):.4f}")
scatter = draws.mean(1).std(ddof=1) / np.sqrt(len(draws))
print(f"mean spread {draws.mean():.3f} ± {scatter:.3f}, from the means of 1024 chains")
print(many.diagnose())

# %% [markdown]
# Now without a warm-up: the first draws are still near the points where their groups began, and the
# step size is a first guess. Both are said.

# %%
hasty = run(1024, 16, warmup_steps=0)
hasty_draws = hasty.to_arviz().posterior["mean"].values
print(f"nested R-hat of the mean: {float(nested_rhat(hasty_draws, groups)):.4f}")
print(hasty.diagnose())

figure, panels = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
for panel, values, title in zip(
    panels,
    (data.posterior["mean"].values, hasty_draws),
    ("150 transitions before", "none before"),
    strict=True,
):
    for group in range(8):
        panel.plot(range(1, 17), values[groups == group].mean(0), color="#1f5f8b", alpha=0.8)
    panel.set(title=title, xlabel="draw")
panels[0].set_ylabel("mean of a group of chains")
figure.savefig(pictures / "groups.png")

# %% [markdown]
# ## Until it is enough
#
# `sample` asks only for a model. It takes 64 chains, looks at 50, 100, 200, ... draws of each, and
# stops when every coordinate is worth as many draws as were asked for and the chains agree. The
# looks are few and fixed beforehand: a run that stopped as soon as a noisy estimate crosses a line
# would stop too early.

# %%
enough = ebm.sample(schools, error, gain, stop=ebm.UntilESS(4000))
print(f"{enough.posterior.sizes['draw']} draws of {enough.posterior.sizes['chain']} chains")
print(enough.posterior.attrs["diagnosis"])

# %% [markdown]
# ## Stop, and go on
#
# A run of hours is kept on disk. Here it is interrupted in the middle, as Ctrl-C does it; what all
# chains have drawn by then can be read, and the run goes on as if nothing had been. No run is ever
# written over another, so that these two, which nobody needs afterwards, go to a new folder that
# the system clears away some day.


# %%
def interrupt(kernel, samples, stage, step):
    if stage == "sample" and len(samples) > 40:
        raise KeyboardInterrupt


runs = Path(tempfile.mkdtemp())
pyro.set_rng_seed(4)
whole = run(32, 100, store=runs / "whole.zarr")
pyro.set_rng_seed(4)
run(32, 100, store=runs / "stopped.zarr", hook_fn=interrupt)
print(ebm.from_store(runs / "stopped.zarr").posterior.sizes)

resumed = ebm.MCMC.resume(runs / "stopped.zarr", ebm.NUTS(schools))
resumed.run(error, gain)
same = torch.equal(resumed.get_samples()["spread"], whole.get_samples()["spread"])
print(f"the same draws, one for one: {same}")

# %%
print(f"The pictures are in {pictures.resolve()}")
