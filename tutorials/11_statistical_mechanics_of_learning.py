# %% [markdown]
# # The statistical mechanics of learning
#
# How many examples does it take to learn a rule? Statistical mechanics answers for the typical
# case: let a teacher give examples, and draw a student at random among all that explain them
# about as well. With a training energy E(w), the sum of the losses over the examples, "about as
# well" is a temperature, and the weights are distributed as
#
# p(w) proportional to prior(w) exp(-E(w)/T).
#
# Its free energy and entropy say how many students are left, and its averages what they get
# wrong: Seung, Sompolinsky, Tishby (1992), Statistical mechanics of learning from examples. Here
# we sample this distribution: for perceptrons, where theory is exact for infinitely many weights,
# and for a small net on handwritten digits, where there is none.

# %%
import warnings
from pathlib import Path

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pyro
import torch
from sklearn.datasets import load_digits

import pyro_ebm as ebm

pyro.set_rng_seed(11)
torch.set_num_threads(1)
pictures = Path("11_statistical_mechanics_of_learning")
pictures.mkdir(exist_ok=True)

# %% [markdown]
# ## One set of examples
#
# A perceptron with 20 weights answers by the sign of w.x. `TrainingEnergy` counts its errors
# (`ZeroOne`) on 40 examples of a teacher, and is an energy like any other: `at(T)` puts it beside
# the prior, and what samples an energy takes that. An error count has no gradient, which NUTS
# would need. Elliptical slice sampling needs none, only a prior that is Gaussian.

# %%
size = 20
teacher_weights = torch.randn(size)
inputs = torch.randn(40, size)
targets = (inputs @ teacher_weights).sign()
training = ebm.TrainingEnergy(ebm.Perceptron(size), ebm.ZeroOne(), (inputs, targets))
chains = ebm.MCMC(
    ebm.EllipticalSlice(training.at(1.0)),
    num_samples=500,
    warmup_steps=300,
    thinning=5,
    num_chains=16,
    disable_progbar=True,
)
chains.run()
weights = chains.get_samples()["x"]
print(f"mean number of errors of 40: {float(training(weights).mean()):.2f}")
print(az.summary(chains.to_arviz(), kind="diagnostics")["r_hat"].max(), "is the largest R-hat")

# %% [markdown]
# `gibbs_learning` anneals populations of weights from the prior down through temperatures, and so
# has what single chains lack: the free energy, and with it the entropy. At T = 0 the entropy is
# the logarithm of the share of the prior that makes no error: the volume of version space.

# %%
cooled = ebm.gibbs_learning(training, [5.0, 1.0, 0.5, 0.0])
for temperature in cooled.temperature.values:
    at = cooled.sel(temperature=temperature)
    print(
        f"T = {temperature:3.1f}: training error {float(at.training_error):.3f}, entropy a weight "
        f"{float(at.entropy):.3f} ± {float(at.entropy_std_error):.3f}"
    )

# %% [markdown]
# ## Many sets of examples: the learning curve
#
# Theory speaks of averages over the examples and the teacher. `learning_curve` samples a student
# for each of many data sets at once; the errors it gives are those of the average over data sets.
# The loss does not know the length of w, so that normal weights are as good as weights on a
# sphere.
#
# The generalisation error is how often student and teacher disagree on new inputs: the angle
# between them over pi.

# %%
alphas = [0.5, 1.0, 2.0, 4.0]
curves = {
    f"N = {size}": ebm.learning_curve(
        ebm.BinaryTeacher(ebm.Perceptron(size)),
        ebm.Perceptron(size),
        ebm.ZeroOne(),
        alphas=alphas,
        temperatures=[0.0],
        num_data_sets=12,
        num_particles=32,
    )
    for size in (20, 50)
}
theory = ebm.perceptron_theory(np.linspace(0.1, 4.5, 60))
figure = ebm.plot_learning_curves(
    curves, theory=theory, names=["generalisation_error", "entropy"], along="alpha"
)
figure.savefig(pictures / "perceptron.png")
for name, curve in curves.items():
    exact = ebm.perceptron_theory(curve.alpha.values)
    apart = (curve.generalisation_error[:, 0] - exact.generalisation_error).values
    error = curve.generalisation_error_std_error[:, 0].values
    print(name, "distance to theory in errors", apart / error)

# %% [markdown]
# *What to look for.* Points within three bars of the line, nearer for larger N. There is no gap to
# close at alpha = 1, as in fits that are either determined or not: learning is gradual, and ever
# more slowly approaches 0 as 0.62/alpha. The entropy falls without end, since real weights can be
# known ever better.
#
# ## Noise, and what temperature does
#
# Now one answer in ten is wrong. No student can follow, and those that follow best follow the
# noise too. Temperature is how much one believes the examples.

# %%
noisy = ebm.learning_curve(
    ebm.BinaryTeacher(ebm.Perceptron(30), flip_rate=0.1),
    ebm.Perceptron(30),
    ebm.ZeroOne(),
    alphas=[2.0, 6.0],
    temperatures=[4.0, 2.0, 1.0, 0.7, 0.5, 0.35, 0.25],
    num_data_sets=12,
    num_particles=32,
    num_sweeps=15,
)
figure = ebm.plot_learning_curves(noisy, along="temperature")
figure.savefig(pictures / "noise.png")
print(noisy.training_error.to_pandas().round(3))
print(noisy.generalisation_error.to_pandas().round(3))

# %% [markdown]
# *What to look for.* Colder students err less on what they have seen, and less on new inputs. But
# the training error falls below one in ten, the rate of wrong answers: a cold student follows the
# noise, and pays for that with entropy alone. With many examples (alpha = 6) it can do so less,
# and generalises better. The likelihood of answers that are turned over at a rate of 0.1 is
# exp(-E/T) for T = 1/log(0.9/0.1) = 0.46: at this temperature the distribution is the posterior,
# and students drawn from it differ by as much as the examples leave open; colder ones are surer
# than they should be.
#
# ## Binary weights: a transition, and getting stuck before it
#
# With weights -1 and +1 only finitely many students are left. Theory has two states: students
# that overlap with the teacher in part, and the teacher itself. The first has the larger entropy
# up to alpha = 1.245; there, all at once, the teacher is the only one left. But the first state
# does not vanish: up to alpha = 1.493 it holds students that are there for long, as supercooled
# water does.
#
# So we start from both sides: annealed from the prior, and `Planted` at the teacher. Where both
# tell the same, it is what equilibrium is; where they do not, at least one is stuck. At T = 0
# single weights hardly move; we compare at T = 0.4, where they do, and look at T = 0 by
# annealing.

# %%
size = 51
binary = ebm.UniformSpins(size)
options = {
    "alphas": [0.4, 0.8, 1.1, 1.4, 1.8, 2.4],
    "prior": binary,
    "num_data_sets": 12,
    "num_particles": 24,
}
rule = ebm.BinaryTeacher(ebm.Perceptron(size), prior=binary)
found = {}
with warnings.catch_warnings():
    # It warns where no student without error is found: that is what we want to see.
    warnings.simplefilter("ignore", UserWarning)
    found["annealed to T = 0"] = ebm.learning_curve(
        rule, ebm.Perceptron(size), ebm.ZeroOne(), temperatures=[0.0], **options
    )
warm = {"temperatures": [0.4], "num_sweeps": 40}
found["annealed to T = 0.4"] = ebm.learning_curve(
    rule, ebm.Perceptron(size), ebm.ZeroOne(), **warm, **options
)
found["planted, T = 0.4"] = ebm.learning_curve(
    rule, ebm.Perceptron(size), ebm.ZeroOne(), start=ebm.Planted(), **warm, **options
)

line = ebm.binary_perceptron_theory(np.linspace(0.02, 2.6, 300))
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
axes[0].plot(line.alpha, line.generalisation_error, color="k", lw=1.3, label="equilibrium, T = 0")
axes[0].plot(line.alpha, line.poor_generalisation_error, "k--", lw=1, label="metastable, T = 0")
colours = ["#1f5f8b", "#e07b39", "#4a9a62"]
for shift, (name, colour) in enumerate(zip(found, colours, strict=True)):
    values = found[name].generalisation_error_by_data_set[:, 0].values
    x = np.repeat(found[name].alpha.values[:, None], values.shape[1], 1) + 0.03 * (shift - 1)
    axes[0].plot(x, values, ".", color=colour, ms=4)
    axes[0].plot([], [], ".", color=colour, label=name)
axes[0].set_xlabel("examples per weight, alpha")
axes[0].set_ylabel("generalisation error, each data set")
axes[0].legend(fontsize=8, frameon=False)
zero = found["annealed to T = 0"]
axes[1].bar(zero.alpha.values, zero.reached[:, 0].values, width=0.15, color=colours[0])
axes[1].axvline(1.245, color="k", lw=1)
axes[1].axvline(1.493, color="k", lw=1, ls="--")
axes[1].set_xlabel("examples per weight, alpha")
axes[1].set_ylabel("share of data sets where T = 0 was reached")
figure.savefig(pictures / "binary_perceptron.png", dpi=120)
print("data sets in which annealing found a student without error:", zero.reached[:, 0].values)

# %% [markdown]
# *What to look for.* At alpha = 0.4 all colours agree. At 1.1 and 1.4 the annealed students of T
# = 0.4 stay on a poor branch, while planted ones stay near their teacher, on the same kind of
# data: this is metastability, and neither start tells what equilibrium is; only their
# disagreement is sure. Further right more and more data sets let the annealed students go, and at
# 2.4 all have found their teacher: an error of 0 is the teacher itself. Annealing to T = 0 weighs
# errors by how large they are on the way, which helps; near the transition it still misses in
# some data sets, as the right half shows. The transition is blurred: at N = 51 it comes in each
# data set at an alpha of its own.
#
# ## A net on handwritten digits
#
# Nothing here asks for perceptrons. The net below has 4x4 pixels, eight hidden units and ten
# classes, 234 weights with a normal prior; its energy is the cross entropy of 200 digits. There
# is no theory and no teacher, but training and test error, free energy and entropy are there. HMC
# moves the weights, since this energy has a gradient.

# %%
digits = load_digits()
pixels = torch.tensor(digits.images, dtype=torch.float32).reshape(-1, 4, 2, 4, 2).mean((2, 4))
pixels = (pixels.flatten(1) - pixels.mean()) / pixels.std()
classes = torch.tensor(digits.target)
order = torch.randperm(len(classes))
learned, unseen = order[:200], order[200:1200]
net = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 10))
training = ebm.TrainingEnergy(net, ebm.CrossEntropy(), (pixels[learned], classes[learned]))
digit_curve = ebm.gibbs_learning(
    training,
    [100.0, 30.0, 10.0, 3.0, 1.0, 0.3],
    test=(pixels[unseen], classes[unseen]),
    num_populations=4,
    num_particles=6,
    num_sweeps=15,
)
figure = ebm.plot_learning_curves(
    digit_curve, names=["training_error", "test_error", "entropy", "free_energy"]
)
for panel in figure.axes:
    panel.set_xscale("log")
figure.savefig(pictures / "digits.png")
print(digit_curve[["training_error", "test_error", "test_error_std_error"]].to_dataframe().round(3))

# %% [markdown]
# *What to look for.* At high temperature nine answers in ten are wrong, as by chance. Both errors
# fall together while the examples teach; then the training error goes on towards 0 and the test
# error follows more slowly. The entropy, relative to the prior, says what it costs: at low
# temperature the prior's share of such nets is exp(N s), here e to the minus two hundred and
# more.
#
# *What can go wrong.*
#
# - **Particles that do not arrive.** A population that moves too little between steps drags
#   behind its temperature: training errors are too high and the entropy too low. Ask again with
#   `Annealed(kept=0.9, num_sweeps=10)` or more particles; what changes was not in equilibrium.
# - **Nets have symmetries.** Hidden units exchange and change sign, so that chains of the same
#   net do not agree on weights, and need not. Compare what the nets answer.
# - **Temperature 0** asks for weights without an error. With noise there are none, and it is
#   said.
# - **Errors over data sets** are most of the bars above. More particles do not make them smaller,
#   more data sets do.
# - **A glassy landscape.** At low temperature counted errors make many valleys. Both starts,
#   several seeds and exact answers of small systems are the only checks there are.
