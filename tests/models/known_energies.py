"""Energies of known normaliser, as plain functions that do not know it.

The package has classes for most of them; those know log Z, and their distributions are normalised.
"""

import torch


def gaussian(x, scales):
    """Independent coordinates; log Z = sum_i log(scale_i) + d/2 log(2 pi)."""
    return 0.5 * (x / scales).square().sum()


def funnel(x):
    """v ~ N(0, 3^2) and x_i | v ~ N(0, e^v), without their constants (Neal 2003)."""
    v, rest = x[0], x[1:]
    return v.square() / 18 + 0.5 * (torch.exp(-0.5 * v) * rest).square().sum() + 0.5 * len(rest) * v


def student_t(x, df):
    """(nu + 1)/2 log(1 + x^2/nu)."""
    return 0.5 * (df + 1) * torch.log1p(x.square() / df)


def double_well(x, tilt):
    """(x^2 - 1)^2 + c x."""
    return (x.square() - 1).square() + tilt * x


def many_well(x):
    """x_1^4 - 6 x_1^2 - x_1/2 + x_2^2/2 over pairs of neighbours (Noe et al. 2019)."""
    wells, rest = x[0::2], x[1::2]
    return (wells.pow(4) - 6 * wells.square() - 0.5 * wells + 0.5 * rest.square()).sum()


def gaussian_mixture(x, means):
    """-log sum_k exp(-|x - m_k|^2/2); on the plane log Z = log K + log(2 pi)."""
    return -(-0.5 * (x - means).square().sum(-1)).logsumexp(0)
