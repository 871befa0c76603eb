"""The benchmarks' own parts: statistics, judgements, tables, and the handing over of draws."""

import json
import math
from argparse import Namespace

import numpy as np
import pytest
import torch

import pyro_ebm as ebm
from benchmarks.answers import judge
from benchmarks.contestants import COLUMNS, LIBRARIES, NUMPYRO, NUTPIE, OURS, PYRO, contestants
from benchmarks.goals import goals
from benchmarks.models import differing
from benchmarks.process import Failure, measure
from benchmarks.run import Results
from benchmarks.speed import COLD, WARM, Run, read
from benchmarks.statistics import agreement, worst
from benchmarks.step import measure as measure_step
from benchmarks.table import Table, number, write
from benchmarks.tables import best, first_seconds, per_second, throughput, uncounted
from benchmarks.targets import (
    EIGHT_SCHOOLS,
    ILL_CONDITIONED,
    INDEPENDENT,
    SUITE,
    arranged,
    data,
    precision_matrix,
    reference,
)
from tests.models import load

SEEDS, PARAMETERS, ESS = 400, 8, 500.0
MODELS = [name for name in SUITE if name != ILL_CONDITIONED]


def correlated_errors(generator, *, scale=1.0):
    """Means [seed, parameter] whose errors have half of their variance in common."""
    shared, own = generator.normal(size=(SEEDS, 1)), generator.normal(size=(SEEDS, PARAMETERS))
    return scale * (shared + own) / np.sqrt(2 * ESS)


def agreement_of(means):
    ess = np.full_like(means, ESS)
    return agreement(means, ess, np.zeros(PARAMETERS), np.ones(PARAMETERS))


def exact_draws(name, generator, *, chains=4, num_draws=250):
    """Independent draws of a target that has a closed form."""
    size = len(reference(name).parameters)
    normal = generator.normal(size=(chains, num_draws, size))
    if name == ILL_CONDITIONED:
        return normal @ np.linalg.cholesky(np.linalg.inv(precision_matrix())).T
    return normal * INDEPENDENT[name]


def made(column, *, target=EIGHT_SCHOOLS, why_not="", speed=100.0, seconds=5.0, **other):
    """A run of ESS 1000, with so many effective draws a second and seconds in all."""
    row = {"setting": "4 chains", "chains": 4, "draws": 500, "cache": COLD, "repeat": 0}
    row |= {"squared_error": 1.0}
    row |= {"warmup_gradients": 1000.0, "gradients": 3000.0, "memory": 100.0}
    alone = 1000.0 / speed
    row |= {"ess": 1000.0, "until_draws": seconds, "sampling": alone, "alone": alone}
    return Run(**{**row, "target": target, "column": column, "why_not": why_not, **other})


def test_correlated_parameters_count_as_fewer_degrees_of_freedom():
    checked = agreement_of(correlated_errors(np.random.default_rng(0)))
    # R is 1 on the diagonal and 1/2 beside it.
    expected = SEEDS * PARAMETERS**2 / (PARAMETERS + PARAMETERS * (PARAMETERS - 1) / 4)
    assert checked.degrees == pytest.approx(expected, rel=0.15)


def test_the_interval_holds_true_errors_and_no_others():
    generator = np.random.default_rng(1)
    inside = [agreement_of(correlated_errors(generator)).holds for _ in range(200)]
    # 200 chances of 0.002: more than four outside happen once in ten thousand such tests.
    assert sum(inside) >= 196
    assert not agreement_of(correlated_errors(generator, scale=1.25)).holds
    assert not agreement_of(correlated_errors(generator, scale=0.8)).holds


def test_the_worst_parameter_is_the_slowest():
    generator = np.random.default_rng(2)
    draws = generator.normal(size=(4, 500, 2))
    for step in range(1, 500):
        draws[:, step, 1] += 0.9 * draws[:, step - 1, 1]
    assert worst(draws) == worst(draws[..., 1:])
    assert worst(draws).bulk < 0.5 * worst(draws[..., :1]).bulk


@pytest.mark.parametrize("name", [*SUITE, *INDEPENDENT])
def test_every_target_has_a_reference_for_each_parameter(name):
    known = reference(name)
    assert known.mean.shape == known.sd.shape == known.mean_error.shape
    assert len(set(known.parameters)) == len(known.mean)
    assert (known.sd > 0).all()
    assert (known.mean_error < 0.02 * known.sd).all()


@pytest.mark.parametrize("name", MODELS)
def test_peers_read_the_data_that_the_models_are_called_with(name):
    torch.set_default_dtype(torch.float64)
    posterior = load(name)
    arrays = list(data(name).values())
    for given in [*posterior.args, *posterior.kwargs.values()]:
        expected = np.asarray(given)
        assert any(np.array_equal(expected, array) for array in arrays)


@pytest.mark.parametrize("name", MODELS)
def test_sites_are_arranged_in_the_order_of_the_reference(name):
    posterior, generator = load(name), np.random.default_rng(3)
    sites = {
        site: generator.normal(size=(2, 3, *(() if names == (site,) else (len(names),))))
        for site, names in posterior.extract.items()
    }
    expected = posterior.marginals(sites)
    found = arranged(name, sites)
    for place, parameter in enumerate(reference(name).parameters):
        assert np.array_equal(found[..., place], expected[parameter])


def test_the_ill_conditioned_gaussian_has_the_sds_it_says():
    covariance = np.linalg.inv(precision_matrix())
    assert reference(ILL_CONDITIONED).sd == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-8)
    assert np.linalg.cond(covariance) == pytest.approx(1e4, rel=1e-6)


@pytest.mark.parametrize("name", [ILL_CONDITIONED, *INDEPENDENT])
def test_exact_draws_are_a_right_answer(name):
    generator = np.random.default_rng(4)
    wrong = [judge(name, exact_draws(name, generator)).wrong for _ in range(20)]
    # 20 chances of 0.001: two alarms happen once in five thousand such tests.
    assert sum(map(bool, wrong)) <= 1


def test_wrong_means_and_sds_are_found_and_named():
    name = next(iter(INDEPENDENT))
    draws = exact_draws(name, np.random.default_rng(5))
    shifted, narrow, stuck, broken = (draws.copy() for _ in range(4))
    shifted[..., 2] += 0.3 * INDEPENDENT[name][2]
    narrow[..., 4] *= 0.8
    stuck[..., 1] = 0.0
    broken[0, 0, 0] = np.nan
    assert "mean of x[3]" in judge(name, shifted).wrong
    assert "sd of x[5]" in judge(name, narrow).wrong
    assert "never moves" in judge(name, stuck).wrong
    assert "not finite" in judge(name, broken).wrong
    assert "too few" in judge(name, draws[:1, :20]).wrong


def test_draws_outside_a_support_that_depends_on_another_site_are_wrong():
    known = reference("garch11")
    draws = known.mean + 0.01 * known.sd * np.random.default_rng(7).normal(size=(4, 100, 4))
    assert "support" not in judge("garch11", draws).wrong
    draws[0, 0, known.parameters.index("beta1")] = 1.0
    assert "outside the support" in judge("garch11", draws).wrong


def test_the_squared_error_of_exact_draws_is_the_promised_one():
    name, generator = "100-d standard normal", np.random.default_rng(6)
    errors = [judge(name, exact_draws(name, generator)).squared_error for _ in range(20)]
    assert abs(np.mean(errors) - 1) < 4 * np.std(errors) / math.sqrt(len(errors))


def test_the_seconds_to_enough_draws_take_off_what_was_drawn_beyond():
    assert made(OURS, ess=2000.0, until_draws=3.0, alone=1.0).until_enough == pytest.approx(2.5)
    assert made(OURS, ess=500.0, until_draws=3.0, alone=1.0).until_enough == pytest.approx(4.0)
    # 50 of 100 draws are kept, whatever they are worth.
    many = made(OURS, ess=1e6, until_draws=3.0, alone=1.0, draws=100)
    assert many.until_enough == pytest.approx(2.5)


def test_runs_come_back_from_json():
    runs = [made(NUTPIE), Run(EIGHT_SCHOOLS, NUTPIE, "4 chains", 4, 500, COLD, 0, "no draws")]
    found = read(json.loads(json.dumps([run.numbers() for run in runs])))
    assert found[0] == runs[0]
    assert found[1].why_not == "no draws"
    assert math.isnan(found[1].ess)


def test_a_setting_counts_only_if_all_its_repeats_are_right():
    fast_but_wrong_once = [
        made(NUTPIE, setting="a", speed=900.0),
        made(NUTPIE, setting="a", speed=900.0, repeat=1, why_not="wrong"),
    ]
    right = [made(NUTPIE, setting="b", speed=s, repeat=i) for i, s in enumerate((10, 20, 60))]
    found = best([*fast_but_wrong_once, *right], per_second, greatest=True)
    assert found is not None
    assert (found.setting, found.value) == ("b", pytest.approx(20.0))


def test_tables_show_the_best_setting_and_say_what_does_not_count():
    ours, pyro = f"{OURS} float32", PYRO
    runs = [made(ours, setting="few"), made(ours, setting="many", speed=12345.0)]
    runs += [made(pyro, why_not="the sd of tau is 9.0 standard errors off")]
    runs += [Run(EIGHT_SCHOOLS, NUTPIE, "4 chains", 4, 500, COLD, 0, "no draws within 5 s")]
    row = dict(zip(throughput(runs).columns, throughput(runs).rows[0], strict=True))
    assert row[ours] == "12,300 (many)"
    assert (row[pyro], row[NUTPIE]) == ("wrong answer", "no answer")
    assert [line[-1] for line in uncounted(runs).rows] == [run.why_not for run in runs[2:]]
    assert first_seconds(runs, WARM).rows[0][1:] == ["", "", ""]


def test_goals_are_met_by_those_who_are_ahead_and_by_no_others():
    ours = f"{OURS} float32"
    ahead = {NUTPIE: 4.0, f"{NUMPYRO} vectorised": 40.0, PYRO: 2000.0}
    runs = [made(column, speed=1e6 / ratio, seconds=9.0) for column, ratio in ahead.items()]
    verdicts = [goal.met for goal in goals([*runs, made(ours, speed=1e6, seconds=3.0)])]
    assert verdicts == [True, True, True, True, True, None, None, True]
    verdicts = [goal.met for goal in goals([*runs, made(ours, speed=10.0, seconds=99.0)])]
    assert verdicts[:5] == [False] * 5
    behind = goals([*runs, made(ours, speed=1e6, seconds=99.0)])[4]
    assert EIGHT_SCHOOLS in behind.found


def test_a_wrong_answer_of_ours_is_no_win_and_one_of_a_peer_no_loss():
    mine, theirs = made(f"{OURS} float32"), made(NUTPIE)
    wrong = {"why_not": "wrong"}
    assert goals([mine._replace(**wrong), theirs])[3].met is False
    assert goals([mine, theirs._replace(**wrong)])[3].met is True


def test_everyone_takes_part_on_every_target_and_every_setting_stands_once():
    for target in SUITE:
        everyone = contestants(target)
        assert {one.column for one in everyone} == set(COLUMNS)
        assert len({(one.column, one.setting) for one in everyone}) == len(everyone)
    assert {one.library for one in contestants(EIGHT_SCHOOLS, libraries=[PYRO])} == {PYRO}


def given(folder, *, resume=False):
    return Namespace(
        repeats=1,
        only=[EIGHT_SCHOOLS],
        libraries=list(LIBRARIES),
        seeds=0,
        results=folder,
        resume=resume,
    )


def test_results_are_written_run_by_run_and_a_part_says_that_it_is_one(tmp_path):
    results = Results(given(tmp_path))
    results.add(made(NUTPIE))
    text = (tmp_path / "results.md").read_text()
    assert "had not ended" in text
    assert "without arK" in text
    numbers = json.loads((tmp_path / "results.json").read_text())["attributes"]
    assert numbers["complete"] is False
    assert read(numbers["runs"]) == [made(NUTPIE)]
    results.draw()
    assert (tmp_path / "results.png").stat().st_size > 0


def test_an_interrupted_run_goes_on_with_the_library_that_it_had_not_finished(tmp_path):
    groups = {
        column: [c for c in contestants(EIGHT_SCHOOLS) if c.column == column]
        for column in (NUTPIE, PYRO)
    }
    begun = Results(given(tmp_path))
    for one in groups[PYRO]:
        begun.add(made(PYRO, setting=one.setting))
        begun.add(made(PYRO, setting=one.setting, cache=WARM))
    begun.add(made(NUTPIE, setting=groups[NUTPIE][0].setting))
    resumed = Results(given(tmp_path, resume=True))
    assert resumed.has(groups[PYRO], 0)
    assert not resumed.has(groups[PYRO], 1)
    assert not resumed.has(groups[NUTPIE], 0)
    assert {run.column for run in resumed.runs} == {PYRO}


def test_log_densities_may_differ_by_a_constant_and_by_nothing_else():
    ours = np.array([0.0, 1.0, -3e5])
    assert differing(ours, ours + 1e-5) == ""
    assert "0.1" in differing(ours, ours + np.array([0.0, 0.1, 0.0]))


def test_our_worker_hands_over_right_draws_with_what_they_cost():
    options = {"target": next(iter(INDEPENDENT)), "chains": 16, "warmup": 50, "num_draws": 60}
    options |= {"seed": 0, "dtype": "float32", "jit_compile": False}
    outcome = measure("benchmarks.ours", options, time_limit=120.0)
    assert outcome.draws.shape == (16, 60, 20)
    assert judge(options["target"], outcome.draws).wrong == ""
    assert min(outcome.facts["gradients"]) >= 16 * 50
    assert sum(outcome.seconds.values()) < outcome.until_draws
    assert outcome.facts["alone"] > 0
    assert outcome.facts["memory"] > 50


def test_the_cost_of_a_step_stands_beside_that_of_its_gradient():
    posterior = load("eight_schools")
    target = ebm.NUTS(posterior.model).target(posterior.args, posterior.kwargs, None)
    cost = measure_step(target, 8, num_samples=120, compile_graph=False)
    assert cost.ratio == cost.step / cost.gradient
    assert 0 < cost.gradient < cost.step


def test_results_are_written_as_markdown_and_json(tmp_path):
    table = Table("Speed", ("library", "speed"), [["a", number(12345.0)]], "Fast.", {"a": 12345.0})
    write(
        [table], tmp_path / "results", heading="All", remarks=("Words.",), attributes={"cores": 2}
    )
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert "| a | 12,300 |" in lines
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert numbers == {"attributes": {"cores": 2}, "Speed": {"a": 12345.0}}


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.0123"), (1.0, "1.00"), (123.4, "123"), (999.9, "1,000")]
)
def test_numbers_have_three_figures(value, text):
    assert number(value) == text


def test_a_measurement_that_fails_says_why():
    with pytest.raises(Failure, match=r"No module named benchmarks\.peers\.nobody"):
        measure("benchmarks.peers.nobody", {}, time_limit=60.0)
