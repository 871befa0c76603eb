"""The loop of learning: what it repeats, keeps, notices, and refuses."""

import functools
import math
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal
from torch.utils.data import DataLoader, TensorDataset

import pyro_ebm as ebm

from .families import Precision


def rows(number=400, dim=2):
    return torch.randn(number, dim, generator=torch.Generator().manual_seed(1)) * 1.5 + 0.5


def gaussian(dim=2):
    return Precision(torch.zeros(dim), torch.eye(dim))


def learned(energy, data, objective=None, *, seed=3, steps=60, **options):
    torch.manual_seed(seed)
    return ebm.fit(
        energy,
        data,
        objective or ebm.ScoreMatching(),
        num_steps=steps,
        batch_size=100,
        disable_progbar=True,
        **options,
    )


def values(energy):
    return torch.cat([p.detach().reshape(-1) for p in energy.parameters()])


OBJECTIVES = {
    "persistent": ebm.PersistentContrastiveDivergence(),
    "buffer": ebm.PersistentContrastiveDivergence(num_chains=20, buffer_size=80, restart=0.1),
    "divergence": ebm.ContrastiveDivergence(),
    "langevin": ebm.ContrastiveDivergence(
        steps=3, sampler=ebm.Langevin(adjusted=False, step_size=0.3)
    ),
    "annealed": ebm.AnnealedLikelihood(num_particles=64),
    "exact": ebm.ExactLikelihood(),
    "score": ebm.ScoreMatching(),
    "sliced": ebm.SlicedScoreMatching(num_slices=2),
    "denoising": ebm.DenoisingScoreMatching(0.3),
    "noise": ebm.NoiseContrastive(),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_repeats_and_resumes_to_the_same_numbers(name, tmp_path):
    data, objective = rows(), OBJECTIVES[name]
    whole, again, stopped = gaussian(), gaussian(), gaussian()
    first = learned(whole, data, objective)
    learned(again, data, objective)
    assert torch.equal(values(whole), values(again))
    learned(stopped, data, objective, steps=25, look_every=1, store=tmp_path / "run")
    other = gaussian()
    resumed = ebm.resume_fit(
        tmp_path / "run", other, data, objective, num_steps=60, disable_progbar=True
    )
    assert torch.equal(values(whole), values(other))
    assert resumed.history["step"][-1] == first.history["step"][-1] == 60


def test_learning_moves_to_the_data_and_says_how_far_it_came():
    energy = gaussian()
    result = learned(energy, rows(2000), ebm.ExactLikelihood(), steps=400,
                     optimizer=lambda p: torch.optim.Adam(p, lr=0.05))  # fmt: skip
    assert not result.diverged
    assert result.advice == ()
    gained = result.history["log_likelihood"]
    assert gained[-1] > gained[0]
    covariance = torch.linalg.inv(energy.root.detach().tril() @ energy.root.detach().tril().T)
    torch.testing.assert_close(covariance.diagonal(), torch.full((2,), 2.25), rtol=0.15, atol=0.0)
    assert result.log_z == pytest.approx(float(energy.log_normalizer().detach()), rel=1e-5)


class Net(ebm.Energy):
    """A net on the plane without a confining term: it can run away."""

    def __init__(self):
        super().__init__((2,))
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)


@pytest.mark.parametrize(
    "objective", [ebm.PersistentContrastiveDivergence(), ebm.DenoisingScoreMatching(0.2)]
)
def test_divergence_ends_with_a_sentence_and_the_last_good_parameters(objective):
    energy = Net()
    with pytest.warns(ebm.DivergedWarning, match="learning rate ten times smaller"):
        result = learned(energy, rows(), objective, steps=400,
                         optimizer=lambda p: torch.optim.SGD(p, lr=30.0))  # fmt: skip
    assert result.diverged
    assert "diverged at step" in result.why
    assert bool(values(energy).isfinite().all())
    assert bool(energy(rows()).isfinite().all())


def test_numbers_that_are_not_finite_never_reach_the_parameters():
    class Broken(Net):
        calls = 0

        def forward(self, x):
            Broken.calls += 1
            return super().forward(x) * (math.nan if Broken.calls > 20 else 1.0)

    energy = Broken()
    with pytest.warns(ebm.DivergedWarning, match="nan"):
        learned(energy, rows(), ebm.DenoisingScoreMatching(0.2))
    assert bool(values(energy).isfinite().all())


def test_a_keyboard_interrupt_gives_what_was_learned(tmp_path):
    class Stopping(Net):
        calls = 0

        def forward(self, x):
            Stopping.calls += 1
            if Stopping.calls == 30:
                raise KeyboardInterrupt
            return super().forward(x)

    result = learned(Stopping(), rows(), ebm.DenoisingScoreMatching(0.2), store=tmp_path / "run",
                     held_out=None)  # fmt: skip
    assert "interrupted" in result.why
    resumed = ebm.resume_fit(tmp_path / "run", Net(), rows(), ebm.DenoisingScoreMatching(0.2),
                             held_out=None, disable_progbar=True)  # fmt: skip
    assert resumed.history["step"][-1] == 60


def test_chains_that_lag_are_told_of():
    energy = ebm.Tilted(Net(), Independent(Normal(torch.zeros(2), 3.0), 1))
    slow = ebm.PersistentContrastiveDivergence(sampler=ebm.Langevin(adjusted=False, step_size=1e-4))
    result = learned(energy, rows(), slow, steps=300,
                     optimizer=lambda p: torch.optim.Adam(p, lr=0.005))  # fmt: skip
    assert any("chains" in sentence for sentence in result.advice)


def test_loaders_arrays_and_datasets_are_data():
    data = rows()
    for given in (data.numpy(), TensorDataset(data), DataLoader(TensorDataset(data), 50)):
        result = learned(gaussian(), given)
        assert result.history["step"][-1] == 60


def test_the_average_of_the_parameters_is_smoother_than_they_are():
    plain, averaged = gaussian(), gaussian()
    options = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), "steps": 200}
    learned(plain, rows(), ebm.SlicedScoreMatching(), **options)
    learned(averaged, rows(), ebm.SlicedScoreMatching(), ema=0.95, **options)
    assert not torch.equal(values(plain), values(averaged))
    torch.testing.assert_close(values(plain), values(averaged), atol=0.3, rtol=0.0)


class Silent(Precision):
    """A Gaussian that does not say what its log Z is."""

    def log_normalizer(self, temperature=1.0):
        return None


def test_annealed_learning_carries_log_z_along():
    torch.set_default_dtype(torch.float64)
    energy = Silent(torch.zeros(2), torch.eye(2))
    log_z = math.log(2 * math.pi)
    objective = ebm.AnnealedLikelihood(num_particles=512, log_z=log_z)
    result = learned(energy, rows(1000).double(), objective, steps=150,
                     optimizer=lambda p: torch.optim.Adam(p, lr=0.02))  # fmt: skip
    right = float(Precision.log_normalizer(energy).detach())
    assert abs(right - log_z) > 0.3
    assert result.log_z_error < 0.1
    assert abs(result.log_z - right) < 4 * result.log_z_error


def test_the_penalty_keeps_energies_small():
    def size(penalty):
        energy = ebm.Tilted(Net(), Independent(Normal(torch.zeros(2), 3.0), 1))
        learned(energy, rows(), ebm.NoiseContrastive(), steps=150, energy_penalty=penalty,
                optimizer=lambda p: torch.optim.Adam(p, lr=0.02))  # fmt: skip
        return float(energy(rows()).detach().abs().mean())

    assert size(1.0) < size(0.0)


def test_arviz_data_hold_the_chains_and_the_history():
    result = learned(gaussian(), rows(), ebm.PersistentContrastiveDivergence(num_chains=8))
    data = result.to_arviz()
    assert data.posterior["x"].dims[:2] == ("chain", "draw")
    assert data.posterior.sizes["chain"] == 8
    assert "loss" in data.learning
    assert np.isfinite(data.learning["acceptance"].values).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": ebm.DoubleWell(2)}, "parameters that require a gradient"),
        ({"data": torch.randn(10, 3)}, "configurations of Precision"),
        ({"data": torch.full((10, 2), math.nan)}, "finite numbers"),
        ({"data": torch.randn(10, 2).double()}, "float64"),
        ({"num_steps": 0}, "num_steps"),
        ({"ema": 1.5}, "ema"),
        ({"gradient_clip": -1.0}, "gradient_clip"),
        ({"energy_penalty": -1.0}, "energy_penalty"),
        ({"held_out": 1.0}, "held_out"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"energy": gaussian(), "data": rows(), "objective": ebm.ScoreMatching()} | change
    energy, data, objective = (given.pop(name) for name in ("energy", "data", "objective"))
    with pytest.raises(ValueError, match=message):
        ebm.fit(energy, data, objective, disable_progbar=True, **given)


def test_things_of_another_kind_are_refused():
    with pytest.raises(TypeError, match="objective"):
        ebm.fit(gaussian(), rows(), "score")
    with pytest.raises(TypeError, match="optimizer"):
        learned(gaussian(), rows(), optimizer=3)
    with pytest.raises(TypeError, match="data"):
        learned(gaussian(), ["one", "two"])
    with pytest.raises(TypeError, match="discrete states"):
        learned(gaussian(), rows(), ebm.ContrastiveDivergence(sampler=ebm.Gibbs))
    rbm = ebm.RBM(nn.Parameter(torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="marginal"):
        ebm.fit(rbm, (rows() > 0).float())


def test_a_folder_is_never_written_over(tmp_path):
    learned(gaussian(), rows(), store=tmp_path / "run")
    with pytest.raises(FileExistsError, match="resume_fit"):
        learned(gaussian(), rows(), store=tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        ebm.resume_fit(tmp_path / "other", gaussian(), rows())
    with pytest.raises(ValueError, match="energy that the run was begun with"):
        ebm.resume_fit(tmp_path / "run", gaussian(3), rows(dim=3), ebm.ScoreMatching())
    with pytest.raises(ValueError, match="objective that the run was begun with"):
        ebm.resume_fit(tmp_path / "run", gaussian(), rows(), ebm.SlicedScoreMatching())
    with pytest.raises(ValueError, match="data that the run was begun with"):
        ebm.resume_fit(tmp_path / "run", gaussian(), 2 * rows(), ebm.ScoreMatching())


@pytest.mark.parametrize("objective", [ebm.ExactLikelihood(), ebm.PseudoLikelihood()])
def test_rows_outside_of_the_support_are_refused(objective):
    machine = ebm.RBM(nn.Parameter(torch.zeros(4, 2))).marginal()
    with pytest.raises(ValueError, match="outside of it"):
        ebm.fit(machine, torch.full((20, 4), 0.5), objective)
    with pytest.raises(ValueError, match="outside of it"):
        objective.loss(machine, torch.full((20, 4), 2.0))


def test_patience_ends_with_the_parameters_of_the_best_look():
    energy, few = Net(), rows(60)
    result = learned(
        energy,
        few[:30],
        ebm.DenoisingScoreMatching(0.2),
        steps=2000,
        held_out=few[30:],
        patience=5,
        look_every=10,
        optimizer=lambda p: torch.optim.Adam(p, lr=0.05),
    )
    assert "got no better" in result.why
    assert result.history["step"][-1] < 2000
    same = torch.Generator().manual_seed(0)
    bound = ebm.DenoisingScoreMatching(0.2).bind(energy)
    assert bound.held_out(few[30:], None, same) == pytest.approx(result.history["held_out"].min())
    with pytest.raises(ValueError, match="patience or ema"):
        ebm.fit(gaussian(), rows(), patience=3, ema=0.9)


TOO_FAST = {name: each for name, each in OBJECTIVES.items() if name not in ("exact", "langevin")}


@pytest.mark.parametrize("name", TOO_FAST)
def test_a_learning_rate_far_too_high_ends_no_worse_than_it_began(name):
    torch.manual_seed(1)
    energy = ebm.Tilted(Net(), Independent(Normal(torch.zeros(2), 2.0), 1))
    data = rows(400)
    judge = ebm.DenoisingScoreMatching(0.3).bind(energy)
    same = torch.Generator().manual_seed(0)
    before = judge.held_out(data, None, same)
    with pytest.warns(ebm.DivergedWarning, match="ten times smaller"):
        result = learned(energy, data, TOO_FAST[name], steps=200,
                         optimizer=lambda p: torch.optim.Adam(p, lr=10.0))  # fmt: skip
    assert result.diverged
    assert judge.held_out(data, None, same.manual_seed(0)) <= before + 0.1


@pytest.mark.slow
def test_log_z_that_is_carried_along_holds_at_a_high_rate():
    torch.manual_seed(1)
    energy = ebm.Tilted(Net(), Independent(Normal(torch.zeros(2), 2.0), 1))
    objective = ebm.AnnealedLikelihood(num_particles=256)
    result = learned(energy, rows(1000), objective, steps=150,
                     optimizer=lambda p: torch.optim.Adam(p, lr=0.01))  # fmt: skip
    axis = torch.linspace(-12.0, 12.0, 481)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        exact = float((-energy(grid)).double().logsumexp(0)) + 2.0 * math.log(0.05)
    assert abs(result.log_z - exact) < 4.0 * result.log_z_error


def test_an_optimiser_of_some_parameters_leaves_the_others():
    energy = Net()
    first = energy.net[0].weight.detach().clone()
    last = energy.net[2].weight.detach().clone()
    learned(energy, rows(), ebm.DenoisingScoreMatching(0.2),
            optimizer=torch.optim.Adam(energy.net[2].parameters(), lr=1e-2))  # fmt: skip
    assert torch.equal(energy.net[0].weight, first)
    assert not torch.equal(energy.net[2].weight, last)
    with pytest.raises(ValueError, match="holds none of them"):
        learned(Net(), rows(), optimizer=torch.optim.Adam(Net().parameters()))


def test_optimisers_and_schedulers_that_want_a_loss_are_refused():
    with pytest.raises(TypeError, match="LBFGS"):
        learned(Net(), rows(), ebm.DenoisingScoreMatching(0.2), optimizer=torch.optim.LBFGS)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    with pytest.raises(TypeError, match="patience="):
        learned(Net(), rows(), ebm.DenoisingScoreMatching(0.2), scheduler=plateau)


def test_patience_wants_rows_held_out():
    with pytest.raises(ValueError, match="Give held_out="):
        learned(Net(), rows(), ebm.DenoisingScoreMatching(0.2), patience=3, held_out=None)


def test_every_batch_of_a_loader_is_looked_at():
    states = torch.ones(40, 3)
    states[30:] = 0.5
    machine = ebm.RBM(*(nn.Parameter(0.1 * torch.randn(n)) for n in ((3, 2), (3,), (2,))))
    with pytest.raises(ValueError, match="outside"):
        learned(machine.marginal(), DataLoader(TensorDataset(states), 10), ebm.PseudoLikelihood())


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal; processes in the background may have been told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_within_a_step_changes_nothing(tmp_path):
    class Interrupted(torch.optim.Adam):
        steps = 0

        def step(self, *args):
            Interrupted.steps += 1
            if Interrupted.steps == 30:
                signal.raise_signal(signal.SIGINT)
            return super().step(*args)

    objective, data = ebm.PersistentContrastiveDivergence(), rows()
    whole, stopped, other = gaussian(), gaussian(), gaussian()
    learned(whole, data, objective)
    store = tmp_path / "run"
    first = learned(stopped, data, objective, store=store,
                    optimizer=lambda p: Interrupted(p, lr=1e-3))  # fmt: skip
    assert "interrupted after 30" in first.why
    ebm.resume_fit(store, other, data, objective, disable_progbar=True)
    assert torch.equal(values(whole), values(other))


def test_a_run_goes_on_as_it_was_begun_or_not_at_all(tmp_path):
    def tilted(scale):
        return ebm.Tilted(Net(), Independent(Normal(torch.zeros(2), scale), 1))

    store, objective = tmp_path / "run", ebm.DenoisingScoreMatching(0.2)
    learned(tilted(2.0), rows(), objective, store=store)
    go_on = functools.partial(
        ebm.resume_fit, store, num_steps=90, objective=objective, disable_progbar=True
    )
    with pytest.raises(ValueError, match="other energies"):
        go_on(tilted(1.0), rows())
    with pytest.raises(ValueError, match="optimizer that the run"):
        go_on(tilted(2.0), rows(), optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    with pytest.raises(ValueError, match="scheduler that the run"):
        go_on(tilted(2.0), rows(),
              scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 10))  # fmt: skip
    assert go_on(tilted(2.0), rows()).history["step"][-1] == 90


def test_arrays_take_the_precision_of_the_energy():
    result = learned(Net(), rows().double().numpy(), ebm.DenoisingScoreMatching(0.2))
    assert result.history["step"][-1] == 60
