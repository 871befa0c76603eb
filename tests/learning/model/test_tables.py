"""Tables that come back: in their own form, with what was observed untouched."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pyro_ebm as ebm

QUICK = {"components": 1, "num_steps": 0, "random_state": 0}


def _same(one, other):
    """Bit for bit, NaN left out of the question."""
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def _numbers(*shape):
    return np.random.RandomState(0).randn(*shape)


@pytest.mark.parametrize("kind", [np.float64, np.float32, torch.float32, "image"])
def test_observed_values_come_back_bit_for_bit(kind):
    rows = _numbers(60, 4, 3) if kind == "image" else _numbers(60, 3)
    rows = rows.astype(np.float32 if kind in (np.float32, torch.float32) else np.float64)
    model = ebm.EnergyModel(**QUICK).fit(rows)
    holes = rows[:6].copy()
    holes[0, 0] = 1e9
    holes[:4, 1] = np.nan
    given = torch.from_numpy(holes.copy()) if isinstance(kind, torch.dtype) else holes.copy()
    for filled in (model.transform(given), *model.impute(given, num_draws=2, transitions=2)):
        assert np.isfinite(filled).all()
        seen = ~np.isnan(holes)
        assert _same(filled[seen], holes[seen])
    assert np.array_equal(given, holes, equal_nan=True)


def _frame():
    random = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "x": random.randn(60),
            "kind": pd.Categorical(random.choice(["a", "b"], 60), categories=["b", "a", "c"]),
            "whole": pd.array(random.randint(0, 3, 60), dtype="Int64"),
            "on": random.rand(60) < 0.5,
            "name": random.choice(["u", "v"], 60),
            "many": pd.array(random.randint(0, 2**60, 60), dtype="Int64"),
            "count": random.randint(0, 4, 60).astype(float),
        },
        index=np.arange(100, 160),
    )


def test_data_frames_keep_their_index_and_their_types():
    table = _frame()
    table.loc[155, "count"] = np.nan
    model = ebm.EnergyModel(**QUICK).fit(table)
    holes = table.copy()
    for row, name in enumerate(("x", "kind", "whole", "name", "count")):
        holes.loc[100 + row, name] = None
    filled = model.impute(holes)
    assert not filled.isna().any().any()
    pd.testing.assert_series_equal(filled.dtypes, table.dtypes)
    pd.testing.assert_frame_equal(filled[5:55], table[5:55], check_exact=True)
    pd.testing.assert_frame_equal(filled.where(holes.notna()), holes.where(holes.notna()))
    assert filled.loc[104, "count"] in (0.0, 1.0, 2.0, 3.0)
    drawn = model.sample(5)
    # What was learned as continuous is drawn as such.
    other = [name for name in table if name != "many"]
    pd.testing.assert_series_equal(drawn[other].dtypes, table[other].dtypes)
    assert np.isfinite(model.score_samples(drawn)).all()


def test_integers_with_fractions_filled_in_become_numbers_with_fractions():
    table = _frame()[["x", "many"]]
    table["many"] %= 100
    model = ebm.EnergyModel(**QUICK).fit(table)
    holes = table.copy()
    holes.loc[100, "many"] = None
    filled = model.impute(holes)
    assert str(filled.many.dtype) == "Float64"
    assert not filled.many.isna().any()


def test_objects_stay_numbers_and_names():
    rows = np.array([[0.3 * i, "ab"[i % 2], i % 3] for i in range(60)], dtype=object)
    model = ebm.EnergyModel(**QUICK).fit(rows)
    drawn = model.sample(4)
    assert drawn.dtype == object
    assert {type(each) for each in drawn[0]} == {float, str, int}
    holes = rows[:3].copy()
    holes[0, 0], holes[1, 1], holes[2, 2] = np.nan, None, None
    filled = model.impute(holes)
    assert [type(each) for each in filled.diagonal()] == [float, str, int]
    assert (filled[~np.eye(3, dtype=bool)] == rows[:3][~np.eye(3, dtype=bool)]).all()
    assert math.isfinite(model.score(filled))


@pytest.mark.parametrize("labelled", [False, True])
def test_a_column_that_never_changes_is_a_point_mass(labelled):
    rows = _numbers(100, 2)
    still = np.insert(rows, 1, 3.3, axis=1)
    y = (rows[:, 0] > 0.0) if labelled else None
    small = {"components": 1, "hidden": (8,), "num_steps": 5, "random_state": 0}
    plain = ebm.EnergyModel(**small).fit(rows, y)
    model = ebm.EnergyModel(**small).fit(still, y)
    assert model.n_features_in_ == 3
    assert np.array_equal(model.score_samples(still), plain.score_samples(rows))
    off = still[:3].copy()
    off[:2, 1] = [3.4, -1e9]
    assert model.score_samples(off)[:2].tolist() == [-np.inf, -np.inf]
    assert model.anomaly_score(off)[:2].tolist() == [np.inf, np.inf]
    assert np.isfinite(model.score_samples(off)[2])
    assert (model.sample(5)[:, 1] == 3.3).all()
    off[0, 1] = np.nan
    assert model.impute(off)[:, 1].tolist() == [3.3, -1e9, 3.3]


def test_a_net_that_is_given_sees_every_column():
    still = np.insert(_numbers(60, 2), 1, 3.3, axis=1)
    assert math.isfinite(ebm.EnergyModel(nn.Linear(3, 1), **QUICK).fit(still).score(still))
