"""Learning curves against exact averages of small systems, and theories of large ones."""

import itertools
import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_ebm as ebm
from pyro_ebm import (
    Annealed,
    BinaryTeacher,
    CommitteeMachine,
    HMCMoves,
    Logistic,
    Perceptron,
    Planted,
    RealTeacher,
    SingleWeightMoves,
    SliceMoves,
    SquaredError,
    TrainingEnergy,
    UniformSpins,
    ZeroOne,
    exact_enumeration,
    gibbs_learning,
    learning_curve,
    linear_perceptron_theory,
    perceptron_theory,
)

# Averages over data of binary perceptrons at temperature 0, by listing all weights: P examples of
# normal inputs for N = 11, with the generalisation error, log of the volume over N, and the
# standard errors of both.
LISTED = {
    6: (0.3769031936923663, 0.0015683355813208121, -0.34631223771159064, 0.0024755092868418527),
    11: (0.2057520756373803, 0.004291847996080303, -0.5606649048121458, 0.0032497486304218916),
    22: (0.013316320578257242, 0.0015817815735322258, -0.6852427125884045, 0.0009403318876828155),
}


def agrees(found, name: str, wanted: float, *, error: float = 0.0) -> bool:
    apart = abs(float(found[name]) - wanted)
    return apart < 4 * math.hypot(float(found[f"{name}_std_error"]), error)


def binary_teacher(size: int, **options) -> BinaryTeacher:
    return BinaryTeacher(Perceptron(size), prior=UniformSpins(size), **options)


@pytest.mark.parametrize("number", LISTED)
def test_small_binary_perceptrons_are_as_listing_their_weights_says(number: int):
    error, error_error, volume, volume_error = LISTED[number]
    found = learning_curve(
        binary_teacher(11),
        Perceptron(11),
        ZeroOne(),
        alphas=[number / 11],
        temperatures=[0.0],
        prior=UniformSpins(11),
        num_data_sets=300,
        num_particles=24,
        num_sweeps=5,
    ).squeeze()
    assert float(found.reached) == 1.0
    assert agrees(found, "generalisation_error", error, error=error_error)
    assert agrees(found, "entropy", volume, error=volume_error)
    assert float(found.training_error) == 0.0


def test_given_examples_are_as_listing_all_binary_weights_says():
    inputs, targets = torch.randn(14, 9), torch.randn(14).sign()
    training = TrainingEnergy(Perceptron(9), ZeroOne(), (inputs, targets), prior=UniformSpins(9))
    found = gibbs_learning(training, [2.0, 0.5, 0.25], num_populations=24, num_particles=32)
    for temperature in found.temperature.values:
        exact = exact_enumeration(training.at(float(temperature)))
        at = found.sel(temperature=temperature)
        energy = exact.mean_energy - 9 * math.log(2)
        assert agrees(at, "log_z", float(exact.log_z) / 9)
        assert agrees(at, "training_error", float(energy) * float(temperature) / 14)
        assert agrees(at, "entropy", (float(exact.entropy)) / 9 - math.log(2))
        assert float(at.free_energy) == pytest.approx(-float(temperature * at.log_z))


def listed(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Numbers of errors of all binary perceptrons; a margin of 0 is an error."""
    size = inputs.shape[1]
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=size)))
    return ((every @ inputs.T) * targets <= 0).sum(1)


def test_margins_of_nought_are_errors_at_every_temperature():
    inputs = UniformSpins(8).sample((5,))
    targets = binary_teacher(8).clean(UniformSpins(8).sample() @ inputs.T)
    targets = torch.where(targets == 0, 1.0, targets)
    energy = listed(inputs, targets)
    training = TrainingEnergy(Perceptron(8), ZeroOne(), (inputs, targets), prior=UniformSpins(8))
    found = gibbs_learning(training, [1.0, 0.0], num_populations=40, num_particles=64)
    assert bool((energy == 0).any())
    for temperature, weights in ((1.0, (-energy).exp()), (0.0, (energy == 0).float())):
        at = found.sel(temperature=temperature)
        assert agrees(at, "log_z", float(weights.mean().log()) / 8)
        wanted = float((weights * energy).sum() / weights.sum()) / 5
        assert agrees(at, "training_error", wanted) or wanted == float(at.training_error) == 0.0


def test_a_teacher_teaches_what_it_answers():
    teacher = binary_teacher(8, inputs=UniformSpins(8))
    lessons = teacher.lessons(20, 30)
    outputs = torch.einsum("dn,dpn->dp", lessons.weights, lessons.inputs)
    assert torch.equal(lessons.targets, outputs.sign())
    assert bool((outputs != 0).all())
    planted = learning_curve(
        teacher,
        Perceptron(8),
        ZeroOne(),
        alphas=[1.0],
        temperatures=[0.0],
        prior=UniformSpins(8),
        start=Planted(),
        num_sweeps=2,
    )
    assert bool((planted.reached == 1.0).all())
    assert planted.reached.attrs["long_name"].startswith("share of data sets")
    silent = BinaryTeacher(Perceptron(4), inputs=dist.Delta(torch.zeros(4), event_dim=1))
    with pytest.raises(ValueError, match="that answers"):
        silent.lessons(2, 3)


def test_populations_that_differ_much_are_averaged_by_their_z():
    """Few particles, cold: the mean of log Z lies low, the log of the mean Z does not."""
    inputs, targets = torch.randn(40, 9), torch.randn(40).sign()
    training = TrainingEnergy(Perceptron(9), ZeroOne(), (inputs, targets), prior=UniformSpins(9))
    found = gibbs_learning(training, [0.15], num_populations=100, num_particles=8).squeeze()
    energy = listed(inputs, targets).double()
    assert agrees(found, "log_z", float((-energy / 0.15).exp().mean().log()) / 9)
    assert agrees(found, "training_error", float((-energy / 0.15).softmax(0) @ energy) / 40)
    each = found.log_z_by_population
    assert each.dims == ("population",)
    assert found.reached.attrs["long_name"].startswith("share of populations")
    assert float(each.mean()) < float(found.log_z)
    assert 1.0 < float(found.effective_populations) < 100.0


def test_normal_weights_are_planted_whatever_form_their_law_has():
    prior = torch.distributions.MultivariateNormal(torch.zeros(4), torch.eye(4))
    found = learning_curve(
        TEACHER, Perceptron(4), ZeroOne(), prior=prior, start=Planted(), num_sweeps=2, **SMALL
    )
    assert bool((found.reached == 1.0).all())


def test_losses_that_are_no_numbers_end_a_run():
    training = TrainingEnergy(
        Perceptron(4),
        lambda output, target: (output - target).square() / 0.0,
        (torch.randn(6, 4), torch.randn(6)),
    )
    with pytest.raises(ValueError, match="finite losses"):
        gibbs_learning(training, [1.0])


@pytest.mark.parametrize("moves", [HMCMoves(8), SliceMoves(), SingleWeightMoves()], ids=repr)
def test_given_examples_of_a_linear_perceptron_are_as_gaussians_are(moves):
    torch.set_default_dtype(torch.float64)
    n, p, temperature, deviation = 6, 9, 0.5, 1.5
    x, y = torch.randn(p, n), torch.randn(p)
    prior = dist.Normal(0.0, deviation).expand([n]).to_event(1)
    training = TrainingEnergy(Perceptron(n), SquaredError(), (x, y), prior=prior)
    found = gibbs_learning(
        training, [temperature], num_populations=24, num_particles=64, moves=moves
    ).squeeze()
    f = x / math.sqrt(n)
    covariance = torch.linalg.inv(torch.eye(n) / deviation**2 + f.T @ f / temperature)
    mean = covariance @ f.T @ y / temperature
    energy = 0.5 * (y - f @ mean).square().sum() + 0.5 * (f.T @ f * covariance).sum()
    law = torch.distributions.MultivariateNormal(
        torch.zeros(p), temperature * torch.eye(p) + deviation**2 * f @ f.T
    )
    log_z = law.log_prob(y) + 0.5 * p * math.log(2 * math.pi * temperature)
    assert agrees(found, "training_error", float(energy) / p)
    assert agrees(found, "log_z", float(log_z) / n)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_a_perceptron_learns_as_theory_says(alpha: float):
    found = learning_curve(
        BinaryTeacher(Perceptron(60)),
        Perceptron(60),
        ZeroOne(),
        alphas=[alpha],
        temperatures=[0.0],
        num_particles=32,
    ).squeeze()
    theory = perceptron_theory([alpha]).squeeze()
    # Small systems are off by some 1/N: 0.006 at most where N = 50 (benchmarks/learning_curves.py).
    assert agrees(found, "generalisation_error", float(theory.generalisation_error), error=0.0015)
    assert agrees(found, "entropy", float(theory.entropy), error=0.005)
    # Teacher and student are draws of one posterior, so that the Gibbs error follows from R.
    angle = found.generalisation_error_by_data_set.values
    assert float(angle.mean()) == pytest.approx(math.acos(float(found.overlap)) / math.pi, abs=0.01)


@pytest.mark.slow
def test_a_linear_perceptron_learns_noise_as_theory_says():
    found = learning_curve(
        RealTeacher(Perceptron(200), noise=0.5),
        Perceptron(200),
        SquaredError(),
        alphas=[1.5],
        temperatures=[0.5],
        num_data_sets=8,
        num_particles=16,
        num_sweeps=10,
    ).squeeze()
    theory = linear_perceptron_theory([1.5], 0.5, noise=0.5).squeeze()
    for name in ("training_error", "generalisation_error", "free_energy"):
        assert agrees(found, name, float(theory[name])), name


def test_a_teacher_is_a_draw_of_what_its_student_knows():
    """Starts at the teacher and from the prior meet, in a small system that mixes."""
    options = {"alphas": [1.0], "temperatures": [0.0], "num_data_sets": 120, "num_particles": 8}
    teacher, student = BinaryTeacher(Perceptron(8)), Perceptron(8)
    cooled = learning_curve(teacher, student, ZeroOne(), **options).squeeze()
    planted = learning_curve(
        teacher, student, ZeroOne(), start=Planted(), num_sweeps=500, **options
    ).squeeze()
    wanted, error = (float(planted[f"generalisation_error{end}"]) for end in ("", "_std_error"))
    assert agrees(cooled, "generalisation_error", wanted, error=error)
    assert "entropy" not in planted
    assert float(planted.reached) == 1.0


@pytest.mark.slow
def test_all_moves_agree_on_a_committee_that_cannot_follow_a_richer_one():
    found = {}
    for name, moves in (("single", SingleWeightMoves()), ("slice", SliceMoves())):
        torch.manual_seed(1)
        found[name] = learning_curve(
            BinaryTeacher(CommitteeMachine(6, 3), flip_rate=0.1),
            CommitteeMachine(6, 1),
            ZeroOne(),
            alphas=[3.0],
            temperatures=[1.0, 0.5],
            num_data_sets=40,
            moves=moves,
        ).squeeze()
    single, sliced = found["single"], found["slice"]
    assert float(single.training_error.min()) > 0.02
    for name in ("training_error", "generalisation_error", "entropy"):
        # The same data: what is left is the noise of sampling.
        apart = single[f"{name}_by_data_set"] - sliced[f"{name}_by_data_set"]
        error = apart.std("data_set") / math.sqrt(40)
        assert bool((abs(apart.mean("data_set")) < 4 * error + 1e-3).all()), name


def test_a_net_has_training_and_test_errors_and_a_free_energy():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1), nn.Flatten(0))
    x = torch.randn(60, 2)
    y = (x[:, 0] * x[:, 1]).sign()
    training = TrainingEnergy(net, Logistic(), (x[:30], y[:30]))
    found = gibbs_learning(
        training, [1.0, 10.0], test=(x[30:], y[30:]), num_populations=4, num_sweeps=5
    )
    assert found.temperature.values.tolist() == [10.0, 1.0]
    assert float(found.training_loss[0]) > float(found.training_loss[1])
    assert float(found.entropy[0]) > float(found.entropy[1])
    assert 0.0 <= float(found.test_error.min()) <= float(found.test_error.max()) <= 1.0
    assert found.attrs["num_examples"] == 30


@pytest.mark.slow
def test_what_takes_energies_takes_training_energies():
    torch.set_default_dtype(torch.float64)
    n, p, temperature = 5, 8, 0.5
    x, y = torch.randn(p, n), torch.randn(p)
    training = TrainingEnergy(Perceptron(n), SquaredError(), (x, y))
    f = x / math.sqrt(n)
    law = torch.distributions.MultivariateNormal(
        torch.zeros(p), temperature * torch.eye(p) + f @ f.T
    )
    log_z = law.log_prob(y) + 0.5 * p * math.log(2 * math.pi * temperature)
    found = ebm.AIS(training.at(temperature), base=training.prior, disable_progbar=True).run()
    assert abs(float(found) - float(log_z)) < 4 * found.std_error
    lowest = ebm.minimize(training)
    best = torch.linalg.lstsq(f, y[:, None]).solution[:, 0]
    torch.testing.assert_close(lowest.positions[0].flatten(), best, atol=1e-4, rtol=1e-4)


def test_a_rule_that_cannot_be_followed_is_told():
    with pytest.warns(UserWarning, match="no weights without error"):
        found = learning_curve(
            binary_teacher(9, flip_rate=0.3),
            Perceptron(9),
            ZeroOne(),
            alphas=[4.0],
            temperatures=[1.0, 0.0],
            prior=UniformSpins(9),
            num_data_sets=4,
        ).squeeze()
    assert float(found.reached[0]) == 1.0
    assert float(found.reached[1]) < 1.0
    assert math.isnan(float(found.generalisation_error[1]))
    assert math.isfinite(float(found.generalisation_error[0]))


def test_a_run_repeats_with_its_seed():
    def run():
        torch.manual_seed(3)
        return learning_curve(
            BinaryTeacher(Perceptron(5)),
            Perceptron(5),
            ZeroOne(),
            alphas=[1.0],
            temperatures=[0.5],
            num_data_sets=2,
            num_sweeps=2,
        )

    assert run().identical(run())


SMALL = {"alphas": [1.0], "temperatures": [1.0], "num_data_sets": 2}
TEACHER = BinaryTeacher(Perceptron(4))
REFUSED = {
    "no teacher": (lambda: learning_curve(Perceptron(4), Perceptron(4), ZeroOne(), **SMALL)),
    "a negative temperature": (
        lambda: learning_curve(
            TEACHER, Perceptron(4), ZeroOne(), **SMALL | {"temperatures": [-1.0]}
        )
    ),
    "one data set": (
        lambda: learning_curve(TEACHER, Perceptron(4), ZeroOne(), **SMALL | {"num_data_sets": 1})
    ),
    "alphas of the same examples": (
        lambda: learning_curve(TEACHER, Perceptron(4), ZeroOne(), **SMALL | {"alphas": [1.0, 1.02]})
    ),
    "a student of another width": (
        lambda: learning_curve(TEACHER, Perceptron(5), ZeroOne(), **SMALL)
    ),
    "inputs of another width than the teacher's": (
        lambda: BinaryTeacher(Perceptron(4), inputs=UniformSpins(5))
    ),
    "less than an example": (
        lambda: learning_curve(TEACHER, Perceptron(4), ZeroOne(), **SMALL | {"alphas": [0.01]})
    ),
    "temperature 0 of a loss that counts nothing": (
        lambda: learning_curve(TEACHER, Perceptron(4), Logistic(), **SMALL | {"temperatures": [0]})
    ),
    "labels of a real teacher": (
        lambda: learning_curve(RealTeacher(Perceptron(4)), Perceptron(4), ZeroOne(), **SMALL)
    ),
    "planted elsewhere": (
        lambda: learning_curve(
            BinaryTeacher(CommitteeMachine(4, 3)),
            Perceptron(4),
            ZeroOne(),
            start=Planted(),
            **SMALL,
        )
    ),
    "binary weights planted at real ones": (
        lambda: learning_curve(
            TEACHER, Perceptron(4), ZeroOne(), prior=UniformSpins(4), start=Planted(), **SMALL
        )
    ),
    "moves of binary weights along a gradient": (
        lambda: learning_curve(
            TEACHER,
            Perceptron(4),
            Logistic(),
            prior=UniformSpins(4),
            moves=HMCMoves(),
            **SMALL,
        )
    ),
    "single weights of a net": (
        lambda: learning_curve(
            TEACHER,
            nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)),
            Logistic(),
            moves=SingleWeightMoves(),
            **SMALL,
        )
    ),
    "a start that is none": (
        lambda: learning_curve(TEACHER, Perceptron(4), ZeroOne(), start="prior", **SMALL)
    ),
    "a step that keeps all": (
        lambda: learning_curve(TEACHER, Perceptron(4), ZeroOne(), start=Annealed(1.0), **SMALL)
    ),
    "a flip rate above one half": (lambda: BinaryTeacher(Perceptron(4), flip_rate=0.7)),
    "a net whose inputs are not known": (lambda: BinaryTeacher(nn.Linear(4, 1))),
    "no energy": (lambda: gibbs_learning(ebm.DoubleWell(2), [1.0])),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused(name: str):
    with pytest.raises((TypeError, ValueError), match=r"expected|alone"):
        REFUSED[name]()
