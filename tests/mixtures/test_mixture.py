"""What a Gaussian mixture refuses, how its draws are named, and what it tells."""

import math

import numpy as np
import pandas
import pyro
import pytest
import sklearn.mixture
import torch

import pyro_ebm as ebm
from pyro_ebm import GaussianMixture, MixturePrior
from pyro_ebm.mixtures import result
from pyro_ebm.mixtures.relabel import orders
from pyro_ebm.mixtures.rows import as_rows
from pyro_ebm.mixtures.selection import bics, numbers_among


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    pyro.set_rng_seed(1)


def two_heaps():
    return torch.cat([torch.randn(20) - 4.0, torch.randn(30) + 4.0])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (torch.tensor([1.0, math.nan, 2.0]), "NaN"),
        (torch.ones(5), "vary"),
        (torch.zeros(2, 2, 2), "shape"),
        (torch.tensor([1.0]), "two points"),
    ],
)
def test_data_that_are_none_are_refused(data, said):
    with pytest.raises(ValueError, match=said):
        GaussianMixture(2).fit(data)


@pytest.mark.parametrize("number", [0, -1, True])
def test_a_number_of_components_is_whole_and_positive(number):
    with pytest.raises(ValueError, match="num_components"):
        GaussianMixture(number)


def test_a_prior_of_other_dimensions_is_refused():
    with pytest.raises(ValueError, match="dimensions"):
        GaussianMixture(2, prior=MixturePrior(torch.zeros(3), 1.0, 2.0, 1.0)).fit(torch.randn(9, 2))
    with pytest.raises(ValueError, match="positive"):
        MixturePrior(0.0, -1.0, 2.0, 1.0)
    with pytest.raises(ValueError, match="different numbers"):
        GaussianMixture.select(torch.randn(9), [2, 2])
    with pytest.raises(ValueError, match="prior for each"):
        GaussianMixture.select(torch.randn(9), [1], prior_probability={2: 1.0})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e5])
def test_columns_that_are_combinations_of_others_are_refused(dtype, scale):
    x, y = scale * torch.randn(2, 50, dtype=torch.float64)
    for columns in ([x, 2.0 * x], [x, y, x - 3.0 * y], [x, 0.1 * x + scale * 7.0]):
        rows = torch.stack(columns, 1).to(dtype)
        with pytest.raises(ValueError, match=r"combinations of one another.*diagonal=True"):
            GaussianMixture.select(rows, [1])
    close = torch.stack([x, x + scale * 1e-3 * torch.randn(50)], 1)
    assert MixturePrior.of(close).full


def test_one_number_of_components_is_no_selection():
    with pytest.raises(TypeError, match=r"such as range\(1, 4\), got 3"):
        numbers_among(3)


def test_data_may_be_arrays_tables_and_columns():
    table = pandas.DataFrame({"a": [1.0, 2.0, 4.0], "b": [3, 1, 2]}, index=[5, 6, 7])
    assert as_rows(table).tolist() == [[1.0, 3.0], [2.0, 1.0], [4.0, 2.0]]
    assert as_rows(table["a"]).tolist() == [[1.0], [2.0], [4.0]]
    assert GaussianMixture(np.int64(2)).num_components == 2
    with pytest.raises(TypeError, match="numbers"):
        as_rows(["one", "two"])


def test_bic_knows_no_units():
    rows = two_heaps()[:, None]
    mixtures = [GaussianMixture(k, prior=MixturePrior.of(rows)) for k in (1, 2)]
    units = 1e-4
    wanted, found = bics(mixtures, rows), bics(mixtures, units * rows)
    for k in (1, 2):
        shift = 2.0 * len(rows) * math.log(units)
        assert found[k] == pytest.approx(wanted[k] + shift, abs=1e-3)


@pytest.mark.parametrize("units", [1.0, 1e-2, 30.0])
def test_bic_is_that_of_scikit_learn_on_the_data(units):
    heaps = [torch.randn(60, 3), 5.0 + 0.5 * torch.randn(60, 3)]
    rows = torch.cat(heaps) * torch.tensor([1.0, units, 1.0])
    mixtures = [GaussianMixture(k, prior=MixturePrior.of(rows)) for k in (1, 2)]
    found, values = bics(mixtures, rows), rows.numpy()
    for k in (1, 2):
        fitted = sklearn.mixture.GaussianMixture(k, n_init=20, reg_covar=1e-12, random_state=0)
        assert found[k] == pytest.approx(fitted.fit(values).bic(values), abs=1e-2)


def test_there_is_no_bic_of_more_components_than_rows():
    rows = torch.randn(3, 1)
    mixtures = [GaussianMixture(k, prior=MixturePrior.of(rows)) for k in (2, 4)]
    found = bics(mixtures, rows)
    assert math.isfinite(found[2])
    assert math.isnan(found[4])


def test_rows_are_looked_at_some_at_a_time(monkeypatch):
    posterior = GaussianMixture(1).fit(two_heaps())
    points = torch.linspace(-6.0, 6.0, 7)
    whole = posterior.log_density(points), posterior.membership(points)
    monkeypatch.setattr(result, "_LARGEST_TABLE", 2 * posterior.mean.numel())
    torch.testing.assert_close(posterior.log_density(points), whole[0])
    torch.testing.assert_close(posterior.membership(points), whole[1])


def test_components_that_change_names_are_named_alike():
    clear = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.2, 0.1, 0.7]])
    shuffles = torch.stack([torch.randperm(3) for _ in range(40)])
    draws = torch.stack([clear[:, shuffle] for shuffle in shuffles])
    named = draws.gather(2, orders(draws, 0)[:, None].expand_as(draws))
    assert (named == draws[:1]).all()


@pytest.mark.slow
def test_named_components_lie_where_their_heaps_are():
    rows = two_heaps()
    posterior = GaussianMixture(2).fit(rows)
    mean = posterior.mean[..., 0].mean((0, 1))
    assert (mean - torch.tensor([rows[:20].mean(), rows[20:].mean()])).abs().max() < 0.5
    assert (posterior.membership().argmax(1) == torch.tensor([0] * 20 + [1] * 30)).all()
    data = posterior.to_arviz()
    assert data.posterior["mean"].dims == ("chain", "draw", "component")
    assert "Stephens" in data.posterior.attrs["relabelling"]
    points = torch.linspace(-12.0, 12.0, 400)
    band = posterior.density(points)
    assert abs(torch.trapezoid(band.mean, points) - 1.0) < 0.01
    assert ((band.low <= band.mean) & (band.mean <= band.high)).all()
    with pytest.raises(ValueError, match="dimensions"):
        posterior.density(torch.zeros(3, 2))


def test_a_run_repeats_with_its_seed():
    rows, found = two_heaps(), []
    for _ in range(2):
        pyro.set_rng_seed(7)
        found.append(GaussianMixture(1).log_evidence(rows).log_z)
    assert found[0] == found[1]


@pytest.mark.slow
def test_two_components_are_found_and_drawn():
    found = GaussianMixture.select(two_heaps(), [1, 2])
    assert found.most_probable == found.lowest_bic == 2
    assert sum(found.probability.values()) == pytest.approx(1.0)
    assert list(found.to_xarray()["components"]) == [1, 2]
    assert "BIC" in repr(found)
    assert ebm.plot_components(found).axes
    assert ebm.plot_density(list(found.posteriors.values())).axes
