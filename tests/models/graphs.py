"""Graphs that are observed: one whose 2^21 like it can all be listed, and one of 120 dyads."""

import torch

# Seven nodes, nine edges.
SEVEN = [
    [0, 1, 1, 0, 0, 0, 0],
    [1, 0, 1, 1, 0, 0, 0],
    [1, 1, 0, 1, 0, 0, 1],
    [0, 1, 1, 0, 1, 0, 0],
    [0, 0, 0, 1, 0, 1, 0],
    [0, 0, 0, 0, 1, 0, 1],
    [0, 0, 1, 0, 0, 1, 0],
]

# Marriages among sixteen Florentine families, by number in alphabetical order; the twelfth, Pucci,
# has none: J. F. Padgett, C. K. Ansell (1993), Robust action and the rise of the Medici. Counts and
# the coefficient of the best model of edges alone as in the documentation of statnet's ergm.
MARRIAGES = (
    "0-8 1-5 1-6 1-8 2-4 2-8 3-6 3-10 3-14 4-10 4-14 6-7 6-15 8-12 8-13 8-15 9-13 10-14 12-14 12-15"
)


def marriages():
    """Their adjacency matrix."""
    ties = torch.tensor([[int(family) for family in tie.split("-")] for tie in MARRIAGES.split()])
    adjacency = torch.zeros(16, 16)
    adjacency[ties[:, 0], ties[:, 1]] = adjacency[ties[:, 1], ties[:, 0]] = 1.0
    return adjacency
