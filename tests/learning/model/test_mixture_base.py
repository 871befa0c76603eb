"""The mixture that nets tilt: a density, leaning where rows are few."""

import torch

from pyro_ebm.learning.model.mixture_base import fit_mixture

_COMPONENTS = (1, 2, 3)


def _rows(number: int, seed: int) -> torch.Tensor:
    stream = torch.Generator().manual_seed(seed)
    side = (torch.rand(number, 1, generator=stream) < 0.5).double() * 4.0 - 2.0
    return side + torch.randn(number, 2, generator=stream, dtype=torch.float64)


def _fitted(rows: torch.Tensor):
    return fit_mixture(
        rows, (0, 0), components=_COMPONENTS, generator=torch.Generator().manual_seed(1)
    )


def test_a_mean_of_mixtures_is_a_density():
    mixture = _fitted(_rows(60, 0))
    axis = torch.linspace(-9.0, 9.0, 361, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    total = mixture.log_prob(grid).exp().sum() * 0.05**2
    assert abs(float(total) - 1.0) < 1e-3
    assert len(mixture.log_weights) > max(_COMPONENTS)


def test_many_rows_are_fitted_by_one_mixture():
    assert len(_fitted(_rows(2_000, 0)).log_weights) in _COMPONENTS


def test_components_differ_in_size():
    stream = torch.Generator().manual_seed(0)
    narrow = 0.1 * torch.randn(1_500, 2, generator=stream, dtype=torch.float64)
    wide = 5.0 + torch.randn(1_500, 2, generator=stream, dtype=torch.float64)
    mixture = fit_mixture(torch.cat([narrow, wide]), (0, 0), components=2, generator=stream)
    sizes = mixture.factor.diagonal(dim1=-2, dim2=-1).mean(-1).sort().values
    assert float(sizes[0]) < 0.2
    assert 0.8 < float(sizes[1]) < 1.2
