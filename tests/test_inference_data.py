"""What goes in as plain arrays is what ArviZ reads, under safe names, and netCDF gives back."""

import json

import arviz as az
import numpy as np
import pytest

from pyro_ebm.inference_data import to_inference_data

SAMPLED = (3, 20)


def normal(*event, seed=0):
    return np.random.default_rng(seed).normal(size=(*SAMPLED, *event))


def schools():
    return {
        "posterior": {"mu": normal(), "theta": normal(4), "corr": normal(2, 2)},
        "unconstrained_posterior": {"theta": normal(4), "corr": normal(1)},
        "sample_stats": {
            "diverging": normal() > 1,
            "tree_depth": np.ones(SAMPLED, dtype=np.int64),
            "lp": normal().astype(np.float32),
        },
        "log_likelihood": {"y": np.tanh(normal(4))},
        "energies": {"smooth": normal()},
        "observed_data": {"y": np.arange(4)},
        "constant_data": {"sigma": np.ones(4), "k": np.asarray(3)},
        "warmup_posterior": {"mu": normal()[:, :5]},
    }


DIMS = {"theta": ("school",), "y": ("school",), "sigma": ("school",)}
COORDS = {"school": ["a", "b", "c", "d"]}


def test_axes_have_names_and_labels_in_every_group():
    data = to_inference_data(schools(), dims=DIMS, coords=COORDS)
    assert data["posterior"]["theta"].dims == ("chain", "draw", "school")
    assert data["posterior"]["corr"].dims == ("chain", "draw", "corr_dim_0", "corr_dim_1")
    assert data["unconstrained_posterior"]["corr"].shape == (*SAMPLED, 1)
    assert data["observed_data"]["y"].dims == data["constant_data"]["sigma"].dims == ("school",)
    assert data["constant_data"]["k"].dims == ()
    for group in ("posterior", "log_likelihood", "observed_data"):
        assert data[group]["school"].values.tolist() == COORDS["school"]
    assert data["warmup_posterior"]["mu"].shape == (3, 5)


def test_values_and_types_are_what_went_in():
    groups = schools()
    data = to_inference_data(groups, dims=DIMS, coords=COORDS)
    for group, contents in groups.items():
        for name, values in contents.items():
            found = data[group][name].values
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found, values)


def test_arviz_works_with_it():
    data = to_inference_data(schools(), dims=DIMS, coords=COORDS)
    assert "theta[a]" in az.summary(data).index
    assert np.isfinite(az.bfmi({"energy": normal()})).all()
    assert az.loo(data).n_data_points == 4


def test_netcdf_gives_back_every_group_type_label_and_attribute(tmp_path):
    attrs = {"seed": 2**62, "complete": True, "time": 0.5, "name": "NUTS", "sites": ["x"]}
    data = to_inference_data(schools(), dims=DIMS, coords=COORDS, attrs=attrs)
    data.to_netcdf(str(tmp_path / "run.nc"))
    back = az.from_netcdf(str(tmp_path / "run.nc"))
    for group in schools():
        assert back[group].identical(data[group])
        for name in schools()[group]:
            assert back[group][name].dtype == data[group][name].dtype
    assert back.attrs["seed"] == 2**62
    assert back["posterior"].attrs["complete"] == 1
    assert json.loads(back["posterior"].attrs["sites"]) == ["x"]


def test_attributes_are_what_netcdf_holds():
    attrs = {
        "none": None,
        "flag": np.bool_(False),
        "number": np.float32(0.5),
        "large": 2**64,
        "array": np.arange(3),
        "mapping": {"a": 1},
        "object": ValueError,
        "text": "x" * 40_000,
    }
    found = to_inference_data({"posterior": {"mu": normal()}}, attrs=attrs).attrs
    assert "none" not in found
    assert (found["flag"], found["number"]) == (0, 0.5)
    assert json.loads(found["large"]) == 2**64
    assert json.loads(found["array"]) == [0, 1, 2]
    assert json.loads(found["mapping"]) == {"a": 1}
    assert "ValueError" in found["object"]
    assert found["text"].endswith("... (40000 characters)")


def test_an_axis_called_like_a_variable_is_renamed_everywhere_and_the_variable_kept():
    groups = {
        "posterior": {"school": normal(4), "theta": normal(4)},
        "observed_data": {"y": np.ones(4)},
    }
    dims = {"school": ("school",), "theta": ("school",), "y": ("school",)}
    data = to_inference_data(groups, dims=dims, coords=COORDS)
    assert set(data["posterior"].data_vars) == {"school", "theta"}
    assert data["posterior"]["school"].dims == ("chain", "draw", "school_dim")
    assert data["observed_data"]["y"].dims == ("school_dim",)
    assert data["observed_data"]["school_dim"].values.tolist() == COORDS["school"]
    assert "school[a]" in az.summary(data).index


@pytest.mark.parametrize("axis", ["chain", "draw", "x"])
def test_an_axis_called_like_one_of_arvizs_or_its_own_variable_is_renamed(axis):
    data = to_inference_data({"posterior": {"x": normal(2)}}, dims={"x": (axis,)})
    assert data["posterior"]["x"].dims == ("chain", "draw", f"{axis}_dim")


def test_variables_called_chain_and_draw_are_renamed_and_said_so(tmp_path):
    groups = {
        "posterior": {"chain": normal(seed=1), "draw": normal(2, seed=2)},
        "observed_data": {"chain": np.ones(3)},
    }
    data = to_inference_data(groups)
    np.testing.assert_array_equal(
        data["posterior"]["chain_variable"].values, groups["posterior"]["chain"]
    )
    assert data["posterior"]["draw_variable"].dims == ("chain", "draw", "draw_variable_dim_0")
    assert data["observed_data"]["chain_variable"].shape == (3,)
    assert json.loads(data.attrs["renamed_variables"]) == {
        "chain": "chain_variable",
        "draw": "draw_variable",
    }
    assert len(az.summary(data)) == 3


def test_a_slash_which_netcdf_reads_as_a_path_becomes_a_dot_without_a_clash(tmp_path):
    groups = {"posterior": {"a/b": normal(seed=1), "a.b": normal(seed=2)}}
    data = to_inference_data(groups, dims={"a/b": ()})
    data.to_netcdf(str(tmp_path / "run.nc"))
    back = az.from_netcdf(str(tmp_path / "run.nc"))
    np.testing.assert_array_equal(back["posterior"]["a.b"], groups["posterior"]["a.b"])
    np.testing.assert_array_equal(back["posterior"]["a.b_variable"], groups["posterior"]["a/b"])


def test_an_empty_name_which_netcdf_cannot_hold_is_replaced(tmp_path):
    groups = {"posterior": {"": normal(2, seed=1), "unnamed": normal(seed=2)}}
    data = to_inference_data(groups, dims={"": ("",)})
    data.to_netcdf(str(tmp_path / "run.nc"))
    back = az.from_netcdf(str(tmp_path / "run.nc"))["posterior"]
    np.testing.assert_array_equal(back["unnamed_variable"], groups["posterior"][""])
    np.testing.assert_array_equal(back["unnamed"], groups["posterior"]["unnamed"])
    assert back["unnamed_variable"].dims == ("chain", "draw", "unnamed_dim")
    assert json.loads(data.attrs["renamed_variables"]) == {"": "unnamed_variable"}


def test_names_for_one_group_alone():
    groups = {"posterior": {"x": normal(3)}, "unconstrained_posterior": {"x": normal(2)}}
    dims = {"x": ("corner",), "unconstrained_posterior/x": ("free",)}
    data = to_inference_data(groups, dims=dims, coords={"corner": list("abc")})
    assert data["posterior"]["x"].dims[2:] == ("corner",)
    assert data["unconstrained_posterior"]["x"].dims[2:] == ("free",)


def test_a_variable_with_fewer_axes_takes_the_first_names():
    groups = {"posterior": {"y": normal(4, 2)}, "log_likelihood": {"y": normal(4)}}
    data = to_inference_data(groups, dims={"y": ("school", "side")})
    assert data["posterior"]["y"].dims[2:] == ("school", "side")
    assert data["log_likelihood"]["y"].dims[2:] == ("school",)


@pytest.mark.parametrize(
    ("groups", "options", "said"),
    [
        ({"posterior": {"x": np.ones(3)}}, {}, r"posterior/x to be \[chain, draw, \*event\]"),
        (
            {"posterior": {"x": normal(3)}},
            {"dims": {"x": ("a",)}, "coords": {"a": [1, 2]}},
            r"3 labels for the axis 'a' of posterior, got \(2,\)",
        ),
        (
            {"posterior": {"x": normal(3), "y": normal(2)}},
            {"dims": {"x": ("a",), "y": ("a",)}},
            "one size for the axis 'a' of posterior, got 3 and, in 'y', 2",
        ),
        (
            {"posterior": {"x": normal(3, 3)}},
            {"dims": {"x": ("a", "a")}},
            "different names for the axes of x",
        ),
    ],
    ids=["no sample axes", "labels", "sizes", "twice"],
)
def test_what_does_not_fit_is_refused(groups, options, said):
    with pytest.raises(ValueError, match=said):
        to_inference_data(groups, **options)
