"""The estimator: scikit-learn's conventions, and densities that are right."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import pyro_ebm as ebm
from pyro_ebm.learning.model.row_energy import Waves

SMALL = {"components": 2, "hidden": (16,), "num_steps": 40, "random_state": 0}


def _pair(n, seed=0):
    random = np.random.RandomState(seed)
    x = random.randn(n)
    return np.stack([10.0 + 3.0 * x, np.exp(0.5 * x + 0.5 * random.randn(n))], 1)


def _mixed(n, seed=0):
    import pandas as pd

    random = np.random.RandomState(seed)
    kind = random.randint(0, 3, n)
    x = random.randn(n) + 2.0 * kind
    on = random.rand(n) < 1.0 / (1.0 + np.exp(2.0 - x))
    return pd.DataFrame({"x": x, "kind": pd.Categorical(np.array(list("abz"))[kind]), "on": on})


def test_the_density_of_raw_data_integrates_to_one():
    model = ebm.EnergyModel(**SMALL).fit(_pair(200))
    assert model.log_z_.reliable
    x, y = np.linspace(-8.0, 28.0, 73), np.linspace(-4.0, 16.0, 161)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(model.score_samples(grid)).reshape(len(x), len(y))
    total = np.trapezoid(np.trapezoid(density, y, axis=1), x)
    assert abs(math.log(total)) < 4.0 * model.log_z_.std_error + 2e-3


@pytest.mark.parametrize("margins", ["plain", "normal"])
def test_scores_are_those_of_the_data_in_any_unit(margins):
    rows = _pair(150)
    one = ebm.EnergyModel(margins=margins, **SMALL).fit(rows)
    other = ebm.EnergyModel(margins=margins, **SMALL).fit(100.0 * rows)
    expected = one.score_samples(rows) - 2.0 * math.log(100.0)
    assert np.allclose(other.score_samples(100.0 * rows), expected, atol=1e-2)


def test_probabilities_of_mixed_columns_add_up_and_draws_follow_them():
    import pandas as pd

    model = ebm.EnergyModel(**SMALL).fit(_mixed(300))
    x, shares, means = np.linspace(-12.0, 20.0, 801), {}, {}
    for kind in "abz":
        density = sum(
            np.exp(model.score_samples(pd.DataFrame({"x": x, "kind": kind, "on": on})))
            for on in (False, True)
        )
        shares[kind] = np.trapezoid(density, x)
        means[kind] = np.trapezoid(x * density, x) / shares[kind]
    assert abs(math.log(sum(shares.values()))) < 4.0 * model.log_z_.std_error + 2e-3
    drawn = model.sample(1500)
    assert list(drawn.columns) == ["x", "kind", "on"]
    for kind in "abz":
        mine = drawn.x[drawn.kind == kind]
        error = math.sqrt(shares[kind] * (1.0 - shares[kind]) / 1500)
        assert abs(len(mine) / 1500 - shares[kind]) < 4.0 * error
        assert abs(mine.mean() - means[kind]) < 4.0 * mine.std() / math.sqrt(len(mine))


def test_an_estimator_repeats_and_is_cloned_and_searched():
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = _pair(80)
    model = ebm.EnergyModel(**SMALL).fit(rows)
    again = clone(model)
    assert again.get_params() == model.get_params()
    assert not hasattr(again, "energy_")
    assert np.array_equal(again.fit(rows).score_samples(rows), model.score_samples(rows))
    assert np.array_equal(again.sample(5), model.sample(5))
    assert model.set_params(num_steps=5).num_steps == 5
    with pytest.raises(ValueError, match="Invalid parameter 'nets'"):
        model.set_params(nets=1)
    quick = ebm.EnergyModel(components=1, num_steps=0, random_state=0)
    assert cross_val_score(quick, rows, cv=3).shape == (3,)
    pipeline = make_pipeline(StandardScaler(), clone(quick)).fit(rows)
    assert pipeline.score_samples(rows).shape == (80,)
    search = GridSearchCV(quick, {"margins": ["plain", "normal"]}, cv=2).fit(rows)
    # The second column is skewed.
    assert search.best_params_ == {"margins": "normal"}


def test_scikit_learn_is_not_imported_before_it_asks():
    code = "import sys, pyro_ebm; pyro_ebm.EnergyModel(); sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_labels_are_told_from_the_joint_energy():
    random = np.random.RandomState(0)
    label = random.randint(0, 3, 300)
    rows = random.randn(300, 2) + 2.0 * np.stack([label == 1, label == 2], 1)
    names = np.array(["n", "x", "y"])[label]
    model = ebm.EnergyModel(components=4, hidden=(16,), num_steps=60, random_state=0).fit(
        rows, names
    )
    chance = model.predict_proba(rows)
    assert np.allclose(chance.sum(1), 1.0)
    assert set(model.predict(rows)) == {"n", "x", "y"}
    # Bayes' rule on the true density.
    centres = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    log_density = -0.5 * np.square(rows[:, None] - centres).sum(-1)
    bayes = float(np.mean(log_density.argmax(1) == label))
    assert model.score(rows, names) > bayes - 4.0 * math.sqrt(bayes * (1 - bayes) / 300)
    assert model.sample(4).shape == (4, 2)
    with pytest.raises(AttributeError, match="fitted with labels"):
        ebm.EnergyModel(components=1, num_steps=0, random_state=0).fit(rows).predict(rows)


def test_missing_values_are_filled_in_from_the_rest():
    table = _mixed(400)
    model = ebm.EnergyModel(**SMALL).fit(table)
    holes = table.copy()
    holes.loc[:99, "x"] = np.nan
    holes["kind"] = holes["kind"].astype(object)
    holes.loc[50:149, "kind"] = None
    filled = model.impute(holes)
    assert not filled.isna().any().any()
    assert (filled.kind[:50] == table.kind[:50]).all()
    assert np.allclose(filled.x[100:], table.x[100:], atol=1e-4)
    # x varies by 1 about the mean of its kind, and by more about the mean of all.
    error = np.square(filled.x[:50] - table.x[:50]).mean()
    assert error < np.square(table.x.mean() - table.x[:50]).mean()
    draws = model.impute(holes, num_draws=3)
    assert len(draws) == 3
    assert not draws[0].x[:50].equals(draws[1].x[:50])


def test_rows_with_missing_values_are_learned_from():
    rows = _pair(300)
    holes = rows.copy()
    holes[:100, 1] = np.nan
    model = ebm.EnergyModel(hidden=(16,), num_steps=20, components=1, random_state=0).fit(holes)
    whole = ebm.EnergyModel(hidden=(16,), num_steps=20, components=1, random_state=0).fit(rows)
    fresh = _pair(500, seed=1)
    apart = model.score_samples(fresh) - whole.score_samples(fresh)
    # A third of one column is gone: the two models are those of samples of 200 and 300.
    assert abs(apart.mean()) < 0.1
    with pytest.raises(ValueError, match="impute"):
        model.score_samples(holes)


def test_strangers_score_higher():
    model = ebm.EnergyModel(**SMALL).fit(_pair(200))
    score = model.anomaly_score(np.array([[10.0, 1.0], [10.0, 40.0], [-30.0, 1.0]]))
    assert score[0] < score[1]
    assert score[0] < score[2]
    assert abs(np.median(model.anomaly_score(_pair(200)))) < 1e-4


def test_images_are_learned_and_drawn():
    images = np.random.RandomState(0).rand(60, 6, 5)
    model = ebm.EnergyModel(components=1, num_steps=4, batch_size=16, random_state=0).fit(images)
    assert model.sample(3).shape == (3, 6, 5)
    holes = images[:2].copy()
    holes[0, :3] = np.nan
    filled = model.impute(holes, transitions=5)
    assert filled.shape == (2, 6, 5)
    assert np.isfinite(filled).all()
    channels = torch.rand(30, 2, 4, 4)
    assert ebm.EnergyModel(components=1, num_steps=0, random_state=0).fit(channels).sample(
        2
    ).shape == (
        2,
        2,
        4,
        4,
    )


def test_a_binary_energy_that_is_given_is_learned_as_it_is():
    truth = ebm.BoltzmannMachine(torch.tensor([[0.0, 1.5], [1.5, 0.0]]), -0.5)
    every = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    share = (-truth(every)).softmax(0)
    rows = every[torch.multinomial(share, 2000, True)].int().numpy()
    begin = ebm.BoltzmannMachine(nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2)))
    model = ebm.EnergyModel(
        begin, ebm.ExactLikelihood(), num_steps=300, learning_rate=0.05, random_state=0
    )
    model.fit(rows)
    counts = np.array([(rows == one.numpy()).all(1).mean() for one in every])
    found = np.exp(model.score_samples(every.int().numpy()))
    assert abs(found.sum() - 1.0) < 1e-6
    assert np.abs(found - counts).max() < 4.0 * math.sqrt(0.25 / 200)
    assert float(begin.biases.detach().abs().max()) == 0.0


def test_a_net_and_an_objective_that_are_given_are_taken():
    net = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1))
    model = ebm.EnergyModel(
        net, ebm.PersistentContrastiveDivergence(steps=1), num_steps=10, random_state=0
    ).fit(_pair(100))
    assert model.temperature_ == 1.0
    assert model.trained_.history["step"][-1] == 10
    states = ebm.EnergyModel(
        objective=ebm.PersistentContrastiveDivergence(num_chains=32), **SMALL
    ).fit(_mixed(60))
    assert np.isfinite(states.score(_mixed(20)))
    with pytest.raises(TypeError, match="columns of states"):
        ebm.EnergyModel(objective=ebm.ScoreMatching(), **SMALL).fit(_mixed(60))


def test_a_temperature_is_calibrated_and_used():
    rows = np.random.RandomState(0).randn(400, 1)
    # A net that says nothing leaves the mixture, which was fitted to these rows.
    silent = nn.Linear(1, 1)
    nn.init.zeros_(silent.weight)
    model = ebm.EnergyModel(
        silent, num_steps=0, components=1, temperature="calibrated", random_state=0
    )
    model.fit(rows)
    assert abs(model.temperature_ - 1.0) < 4.0 * model.temperature_error_
    fixed = ebm.EnergyModel(num_steps=0, components=1, temperature=2.0, random_state=0).fit(rows)
    grid = np.linspace(-15.0, 15.0, 1501)[:, None]
    total = np.trapezoid(np.exp(fixed.score_samples(grid)), grid[:, 0])
    assert abs(math.log(total)) < 4.0 * fixed.log_z_.std_error + 1e-3


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ({}, [1.0, 2.0], "Reshape your data"),
        ({"columns": "binary"}, [[0], [1], [2]], "two states"),
        ({"columns": {7: "binary"}}, [[0], [1]], "among"),
        ({"margins": "odd"}, [[0.0], [1.5]], "margins"),
        ({"temperature": -1.0}, [[0.0], [1.5]], "temperature"),
        ({}, [[0.5, np.inf], [1.0, 1.5]], "infinity"),
    ],
)
def test_what_is_no_table_is_refused(kind, rows, message):
    with pytest.raises(ValueError, match=message):
        ebm.EnergyModel(**kind).fit(np.array(rows))
    with pytest.raises(Exception, match="not fitted yet"):
        ebm.EnergyModel().sample(2)


def test_states_never_seen_and_other_columns_are_refused():
    model = ebm.EnergyModel(components=1, num_steps=0, random_state=0).fit(_mixed(60))
    other = _mixed(5).assign(kind="q")
    with pytest.raises(ValueError, match="one of the states"):
        model.score_samples(other)
    with pytest.raises(ValueError, match="as in fit"):
        model.score_samples(_mixed(5)[["x", "on"]])


def test_waves_are_shown_of_few_columns_with_many_rows():
    many, few, wide, states = (
        Waves(*each) for each in (([0, 0], 2000), ([0, 0], 100), ([0] * 13, 2000), ([2, 3], 2000))
    )
    rows = torch.randn(5, 2)
    assert many(rows).shape == (5, many.size) == (5, 2 + 256)
    assert torch.equal(few(rows), rows)
    assert (wide.size, states.size) == (13, 5)


def test_a_net_that_rows_held_out_do_not_support_is_taken_back():
    stream = np.random.RandomState(0)
    model = ebm.EnergyModel(num_steps=200, random_state=0).fit(stream.randn(80, 3))
    assert "taken back" in model.trained_.why
    rows = torch.as_tensor(stream.randn(10, 3), dtype=torch.get_default_dtype())
    torch.testing.assert_close(-model.energy_(rows), model.base_.log_prob(rows))
    assert model.log_z_.log_z == model.log_z_.std_error == 0.0


def test_a_net_that_rows_held_out_support_stays():
    angle = np.random.RandomState(0).rand(2_000) * 2.0 * np.pi
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    ring += 0.05 * np.random.RandomState(1).randn(2_000, 2)
    model = ebm.EnergyModel(components=1, num_steps=300, random_state=0).fit(ring)
    alone = ebm.EnergyModel(components=1, num_steps=0, random_state=0).fit(ring)
    assert "taken back" not in model.trained_.why
    assert model.score(ring) > alone.score(ring) + 0.5
