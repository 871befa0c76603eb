"""Learning curves: errors, entropy and free energy against examples per weight and temperature.

Everything is an average over data sets, each with a teacher of its own (a quenched average), and
has the error that comes of how they differ; the noise of sampling is in it, as every data set is
sampled for itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_ebm.annealing.start import check_whole
from pyro_ebm.energies import Examples, FlatNetwork, Loss, TrainingEnergy, UniformSpins
from pyro_ebm.energies.training import check_loss, checked_prior

from .checks import checked_numbers, numbers_of_examples
from .dataset import Row, dataset, over_data_sets, over_populations
from .errors import closed_form_error, error_of, overlap
from .options import Annealed, Planted, check_zero, moves_of, plan_of, to_zero
from .population import Found, Look, Moves, Plan, annealed, joined, settled
from .problem import Problem
from .teacher import Lessons, Teacher

if TYPE_CHECKING:
    import xarray as xr


def learning_curve(
    teacher: Any,
    student: nn.Module,
    loss: Loss,
    *,
    alphas: Any,
    temperatures: Any,
    prior: Distribution | None = None,
    num_data_sets: int = 16,
    num_particles: int = 64,
    num_sweeps: int = 20,
    start: Any = None,
    moves: Any = "auto",
    num_test: int = 2000,
) -> xr.Dataset:
    """Training and generalisation error, entropy and free energy of a student of a teacher.

    Weights are distributed as prior(w) exp(-E(w)/T), E the sum of the losses. Per weight, with N
    weights and Z the prior's mean of exp(-E/T), the free energy is f = -T log Z / N and the entropy
    s = (log Z + <E>/T) / N: at most 0, and at T = 0 the logarithm of the volume of version space.
    It is relative to the prior: add log 2 for the logarithm of the number of binary weights.

    Args:
        teacher: a `BinaryTeacher` or a `RealTeacher`.
        student: a network; N is the number of its parameters.
        loss: as of :class:`~pyro_ebm.TrainingEnergy`.
        alphas: examples per weight; P = round(alpha N).
        temperatures: T, each at least 0; 0 for `ZeroOne` alone: weights without an error.
        prior: of the student's weights, standard normal unless given; `UniformSpins(N)` for binary
            weights. With `ZeroOne` a perceptron's length does not matter, and standard normal
            weights have the directions of weights on a sphere.
        num_data_sets: over which everything is averaged, at least 2.
        num_particles: weights sampled for each data set.
        num_sweeps: how often they move at each temperature; the first fifth is for tuning.
        start: `Annealed()`, unless given, or `Planted()`.
        moves: "auto", `SingleWeightMoves()`, `HMCMoves()` or `SliceMoves()`.
        num_test: fresh examples a data set for the generalisation error, where it has no closed
            form.

    Returns:
        An xarray.Dataset over ``alpha`` (as it came out: P/N) and ``temperature``, descending, of
        ``training_loss`` (<E>/P), ``training_error``, ``generalisation_error`` (of answers without
        noise), ``entropy``, ``free_energy`` and, where teacher and student have equally many
        weights, ``overlap``, each with ``_std_error``, over data sets. Errors are shares of wrong
        answers for losses of classes, else the loss. ``_by_data_set`` has what every data set gave.
        Without log Z (`Planted`) entropy and free energy are left out.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, or out of range.

    Warns:
        UserWarning: weights without error were wanted, and in some data set none were found. What
            depends on these is NaN.
    """
    flat = FlatNetwork(student)
    prior = checked_prior(prior, flat)
    start = Annealed() if start is None else start
    plan = plan_of(start, num_sweeps)
    if not isinstance(teacher, Teacher):
        raise TypeError(f"expected a BinaryTeacher or a RealTeacher, got {type(teacher).__name__}.")
    cold = checked_numbers("temperatures", temperatures, above=None)
    rates = checked_numbers("alphas", alphas, above=0.0)[::-1]
    check_whole("num_data_sets", num_data_sets, 2)
    check_whole("num_particles", num_particles, 2)
    check_whole("num_test", num_test, 1)
    numbers = numbers_of_examples(rates, flat.num_weights)
    if isinstance(start, Planted) and teacher.num_weights != flat.num_weights:
        raise ValueError(
            f"expected a student with the {teacher.num_weights} weights of its teacher to start "
            f"there, got {flat.num_weights}."
        )
    binary = [isinstance(law, UniformSpins) for law in (prior, teacher.prior)]
    if isinstance(start, Planted) and binary[0] != binary[1]:
        raise ValueError(
            "expected a student with weights like its teacher's, both binary or both real, to "
            f"start there, got {prior} and {teacher.prior}."
        )
    generator = torch.Generator(flat.device).manual_seed(int(torch.randint(2**63 - 1, ())))
    rows = []
    for alpha, number in zip(rates, numbers, strict=True):
        lessons = teacher.lessons(num_data_sets, number)
        problem = Problem(flat, loss, prior, lessons.inputs, lessons.targets)
        check_loss(flat, loss, Examples(lessons.inputs[0], lessons.targets[0]), prior)
        check_zero(problem, cold, moves)
        look = _look(problem, teacher, lessons, num_test)
        if isinstance(start, Planted):
            sampler = moves_of(problem, moves)
            begin = lessons.weights[:, None].repeat(1, num_particles, 1)
            with torch.no_grad():
                found = settled(sampler, begin, cold, plan, look=look, generator=generator)
        else:
            shape = (num_data_sets, num_particles)
            found = cooled(problem, shape, cold, plan, moves=moves, look=look, generator=generator)
        so = "Values at temperature 0 are NaN; look at temperatures above 0, or start=Planted()."
        warn_of_unreached(found, f"alpha = {alpha:g}", so)
        rows.append(Row(number, found))
    details = {
        "num_weights": flat.num_weights,
        "num_data_sets": num_data_sets,
        "num_particles": num_particles,
        "num_sweeps": num_sweeps,
        "start": repr(start),
        "loss": repr(loss),
    }
    return dataset(rows, cold, flat.num_weights, details, over_data_sets, over="data_set")


def gibbs_learning(
    training: Any,
    temperatures: Any,
    *,
    test: Examples | tuple[Tensor, Tensor] | None = None,
    num_populations: int = 8,
    num_particles: int = 16,
    num_sweeps: int = 20,
    start: Any = None,
    moves: Any = "auto",
) -> xr.Dataset:
    """Training and test error, entropy and free energy of one network on given examples, against T.

    As :func:`learning_curve`, whose words are explained there, of one data set. Z is the mean over
    independent populations, each counts by its own Z in what is averaged, and errors are those of
    leaving one population out after the other.

    Args:
        training: the energy, whose prior counts.
        temperatures: T, each at least 0; 0 for `ZeroOne` alone.
        test: examples that were not learned, for ``test_error``.
        num_populations: at least 2.
        num_particles: weights in each.
        num_sweeps: moves of each at every temperature; the first fifth is for tuning.
        start: `Annealed(...)`.
        moves: as of :func:`learning_curve`.

    Returns:
        An xarray.Dataset over ``temperature``, descending, of ``training_loss``,
        ``training_error``, ``test_error`` if there is a test, ``entropy`` and ``free_energy``, per
        weight, each with ``_std_error``, over populations of weights that learn the same examples;
        ``_by_population`` has what each of them gave. ``effective_populations`` says how many carry
        the mean: where that is near 1, errors are larger than is told. ``reached`` is the share of
        populations that found weights without error, where these were wanted.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, or out of range.

    Warns:
        UserWarning: weights without error were wanted, and in some population none were found.
    """
    if not isinstance(training, TrainingEnergy):
        raise TypeError(f"expected a TrainingEnergy, got {type(training).__name__}.")
    start = Annealed() if start is None else start
    if isinstance(start, Planted):
        raise TypeError("expected start to be Annealed(): given examples have no teacher.")
    plan = plan_of(start, num_sweeps)
    cold = checked_numbers("temperatures", temperatures, above=None)
    check_whole("num_populations", num_populations, 2)
    check_whole("num_particles", num_particles, 2)
    flat = FlatNetwork(training.network)
    loss, prior = training.loss, training.prior
    problem = Problem(flat, loss, prior, training.inputs[None], training.targets[None])
    check_zero(problem, cold, moves)
    error = error_of(loss)
    unseen = None if test is None else training.on(test)

    def look(state: Any) -> dict[str, Tensor]:
        seen = losses_and_errors(problem, state, error)
        if unseen is not None:
            test_set = (unseen.inputs[None], unseen.targets[None])
            wrong = problem.per_example(state.weights, *test_set, error)
            seen["test_error"] = wrong.mean((1, 2))
        return seen

    generator = torch.Generator(flat.device).manual_seed(int(torch.randint(2**63 - 1, ())))
    shape = (num_populations, num_particles)
    found = cooled(problem, shape, cold, plan, moves=moves, look=look, generator=generator)
    so = "They count with a volume of 0 at temperature 0; look at temperatures above 0."
    warn_of_unreached(found, "the given examples", so)
    details = {
        "num_weights": flat.num_weights,
        "num_examples": training.num_examples,
        "num_populations": num_populations,
        "num_particles": num_particles,
        "num_sweeps": num_sweeps,
        "num_steps": found.num_steps,
        "loss": repr(loss),
    }
    rows = [Row(training.num_examples, found)]
    whole = dataset(rows, cold, flat.num_weights, details, over_populations, over="population")
    return whole.isel(alpha=0, drop=True)


def cooled(
    problem: Problem,
    shape: tuple[int, int],
    temperatures: Sequence[float],
    plan: Plan,
    *,
    moves: Any,
    look: Look,
    generator: torch.Generator,
) -> Found:
    """Populations of a shape [D, n] from the prior down; others go to temperature 0."""
    found = []

    def anneal(sampler: Moves, way: Plan, wanted: list[float], last: Moves | None = None) -> None:
        flat = problem.flat
        begin = problem.prior.sample(shape).to(dtype=flat.dtype, device=flat.device)
        with torch.no_grad():
            found.append(
                annealed(sampler, begin, wanted, way, look=look, generator=generator, last=last)
            )

    if warm := [t for t in temperatures if t > 0]:
        anneal(moves_of(problem, moves), plan, warm)
    if temperatures[-1] == 0:
        way = to_zero(problem, plan, moves)
        anneal(way.moves, way.plan, [0.0], way.last)
    return found[0] if len(found) == 1 else joined(*found)


def _look(problem: Problem, teacher: Teacher, lessons: Lessons, num_test: int) -> Look:
    """What is measured of a state: errors, and the overlap with the teacher."""
    error = error_of(problem.loss)
    known = closed_form_error(teacher, problem.flat, problem.loss)
    test: tuple[Tensor, Tensor] | None = None
    if known is None:
        test = teacher.examples(lessons.weights, num_test)

    def look(state: Any) -> dict[str, Tensor]:
        seen = losses_and_errors(problem, state, error)
        if known is not None:
            seen["generalisation_error"] = known(state.weights, lessons.weights).mean(1)
        elif test is not None:
            wrong = problem.per_example(state.weights, *test, error)
            seen["generalisation_error"] = wrong.mean((1, 2))
        if teacher.num_weights == problem.flat.num_weights:
            seen["overlap"] = overlap(state.weights, lessons.weights).mean(1)
        return seen

    return look


def losses_and_errors(problem: Problem, state: Any, error: Loss) -> dict[str, Tensor]:
    """``training_loss`` and ``training_error`` [D]."""
    number = problem.inputs.shape[1]
    loss = state.energy.mean(1) / number
    if error is problem.loss or type(error) is type(problem.loss):
        return {"training_loss": loss, "training_error": loss}
    wrong = problem.per_example(state.weights, problem.inputs, problem.targets, error)
    return {"training_loss": loss, "training_error": wrong.mean((1, 2))}


def warn_of_unreached(found: Found, where: str, so: str) -> None:
    """Tell where no weights without error were found, and so what."""
    missing = int((~found.reached).any(0).sum())
    if missing:
        warnings.warn(
            f"At {where} no weights without error were found in {missing} of "
            f"{found.reached.shape[1]} populations: there are none (noise, a richer teacher), or "
            f"they are not reached from where particles start. {so}",
            stacklevel=3,
        )
