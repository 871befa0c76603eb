"""Exponential random graphs: E(x) = -sum_k theta_k s_k(graph) over the graphs of n nodes.

A configuration is the n (n - 1)/2 dyads, 1 where an edge is, in the order (0, 1), (0, 2), ...,
(0, n - 1), (1, 2), ... Statistics count edges, 2-stars (pairs of edges that share a node) and
triangles, and whatever a function of the adjacency matrix counts.
Source: S. Wasserman, P. Pattison (1996), Logit models and logistic regressions for social networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.distributions import constraints

from .base import Energy
from .checks import as_temperature, values_visible
from .couplings import numbers
from .double_well import checked_dim
from .enumeration import listed_log_z, listed_sample
from .layers import log_one_plus_exp
from .parameters import hold, rounded

Statistic = Callable[[Tensor], Tensor]


class ExponentialRandomGraph(Energy):
    """-theta's over the dyads of a graph; a coefficient that is left out is no part of it.

    Args:
        num_nodes: n, at least 2.
        statistics: pairs of a function, from adjacency matrices [N, n, n] (symmetric, of
            zeros and ones, with a zero diagonal) to [N], and its coefficient.
        edges: the coefficient of the number of edges.
        two_stars: that of the number of pairs of edges that share a node.
        triangles: that of the number of triangles.

    Raises:
        TypeError: the number of nodes is no integer; coefficients that are no numbers; a statistic
            that is no pair of a function and a coefficient.
        ValueError: fewer than two nodes; no statistic at all; a coefficient that is no single
            finite number.
    """

    dyads: Tensor
    places: Tensor

    def __init__(
        self,
        num_nodes: object,
        statistics: Sequence[Any] = (),
        *,
        edges: float | Tensor | None = None,
        two_stars: float | Tensor | None = None,
        triangles: float | Tensor | None = None,
    ) -> None:
        nodes = checked_dim(num_nodes, least=2, name="num_nodes")
        super().__init__((nodes * (nodes - 1) // 2,), support=constraints.boolean)
        self.num_nodes = nodes
        known = {"edges": edges, "two_stars": two_stars, "triangles": triangles}
        given = {name: value for name, value in known.items() if value is not None}
        self.functions = tuple(_function(pair) for pair in statistics)
        given.update({f"other_{k}": pair[1] for k, pair in enumerate(statistics)})
        if not given:
            raise ValueError(
                "expected at least one statistic, got none. Name a coefficient: edges=-1.0."
            )
        hold(self, {}, **given)
        self.names = tuple(given)
        for name in self.names:
            if getattr(self, name).dim():
                raise ValueError(
                    f"expected the coefficient {name} to be one number, got shape "
                    f"{tuple(getattr(self, name).shape)}."
                )
        dyads = torch.triu_indices(nodes, nodes, 1)
        places = torch.zeros(nodes, nodes, dtype=torch.long)
        places[dyads[0], dyads[1]] = places[dyads[1], dyads[0]] = torch.arange(dyads.shape[1])
        self.register_buffer("dyads", dyads)
        self.register_buffer("places", places)

    @property
    def coefficients(self) -> Float[Tensor, " k"]:
        """theta, in the order of `names`."""
        return torch.stack([getattr(self, name) for name in self.names])

    def adjacency(self, x: Shaped[Tensor, "*batch dyads"]) -> Float[Tensor, "*batch nodes nodes"]:
        """The adjacency matrices of configurations."""
        values = numbers(x, self.coefficients)
        square = values.index_select(-1, self.places.reshape(-1)).unflatten(-1, self.places.shape)
        off = 1 - torch.eye(self.num_nodes, dtype=values.dtype, device=x.device)
        return square * off

    def configuration(self, adjacency: Tensor) -> Tensor:
        """The dyads [*batch, n (n - 1)/2] of adjacency matrices [*batch, n, n].

        Raises:
            ValueError: another shape; matrices that are not symmetric, of zeros and ones, with a
                zero diagonal.
        """
        shape = (self.num_nodes, self.num_nodes)
        if tuple(adjacency.shape[-2:]) != shape:
            raise ValueError(
                f"expected adjacency matrices [*batch, {shape[0]}, {shape[1]}], got shape "
                f"{tuple(adjacency.shape)}."
            )
        if values_visible() and not _is_adjacency(adjacency):
            raise ValueError(
                "expected adjacency matrices that are symmetric, of zeros and ones, with a zero "
                "diagonal, got one that is not. Of arcs take the undirected graph: "
                "(a + a.mT).clamp(max=1), without its diagonal."
            )
        return adjacency[..., self.dyads[0], self.dyads[1]]

    def statistics(self, x: Shaped[Tensor, "*batch dyads"]) -> Float[Tensor, "*batch k"]:
        """s, in the order of `names`.

        Raises:
            TypeError: a statistic that is no tensor.
            ValueError: one that is not one number for each graph.
        """
        graph = self.adjacency(x)
        batch = graph.shape[:-2]
        columns = [_COUNTS[name](graph) for name in self.names if name in _COUNTS]
        rows = graph.reshape(-1, *graph.shape[-2:])
        columns += [
            _counted(function, rows).to(graph.dtype).reshape(batch) for function in self.functions
        ]
        return torch.stack(columns, -1)

    def forward(self, x: Shaped[Tensor, "n dyads"]) -> Float[Tensor, " n"]:
        return -(self.statistics(x) * self.coefficients).sum(-1)

    def energy_changes(self, x: Shaped[Tensor, "n dyads"]) -> Float[Tensor, "n dyads 2"] | None:
        """In closed form for edges, 2-stars and triangles; None with other statistics."""
        if self.functions:
            return None
        values = numbers(x, self.coefficients)
        graph = self.adjacency(values)
        first, second = self.dyads
        degree = graph.sum(-1)
        ends = degree.index_select(-1, first) + degree.index_select(-1, second) - 2 * values
        # What an edge adds: itself, the other edges at its ends, their common neighbours.
        gains = {"edges": torch.ones_like(values), "two_stars": ends}
        if "triangles" in self.names:
            gains["triangles"] = (graph @ graph)[:, first, second]
        gain = sum(getattr(self, name) * gains[name] for name in self.names)
        return -torch.stack([-values, 1 - values], -1) * torch.as_tensor(gain).unsqueeze(-1)

    @property
    def interactions(self) -> Int[Tensor, "m 2"] | None:
        if self.functions:
            return None
        ends = torch.zeros(self.event_shape[0], self.num_nodes, device=self.dyads.device)
        ends.scatter_(1, self.dyads.mT, 1.0)
        meet = (ends @ ends.mT).triu(1)
        return (meet if self.names != ("edges",) else torch.zeros_like(meet)).nonzero()

    def log_normalizer(self, temperature: float | Tensor = 1.0) -> Tensor | None:
        """In closed form of edges alone, by listing up to 2^12 graphs; else None."""
        value = as_temperature(temperature).double().to(self.dyads.device)
        like = self.coefficients
        if self.names == ("edges",):
            log_z = self.event_shape[0] * log_one_plus_exp(like[0].double() / value)
        else:
            log_z = listed_log_z(self, value)
        return None if log_z is None else rounded(log_z, like, temperature)

    def exact_sample(
        self,
        shape: Sequence[int] = (),
        *,
        temperature: float | Tensor = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor | None:
        """Exact draws from the list of up to 2^12 graphs."""
        return listed_sample(self, shape, temperature=temperature, generator=generator)


def _is_adjacency(matrices: Tensor) -> bool:
    values = ((matrices == 0) | (matrices == 1)).all()
    symmetric = (matrices == matrices.mT).all()
    alone = (matrices.diagonal(dim1=-2, dim2=-1) == 0).all()
    return bool(values & symmetric & alone)


def _two_stars(graph: Tensor) -> Tensor:
    degree = graph.sum(-1)
    return (0.5 * degree * (degree - 1)).sum(-1)


def _triangles(graph: Tensor) -> Tensor:
    return ((graph @ graph) * graph).sum((-2, -1)) / 6


def _edges(graph: Tensor) -> Tensor:
    return 0.5 * graph.sum((-2, -1))


def _counted(function: Statistic, graphs: Tensor) -> Tensor:
    found: Any = function(graphs)
    name = getattr(function, "__name__", repr(function))
    if not isinstance(found, Tensor):
        raise TypeError(
            f"expected the statistic {name} to return a tensor, got {type(found).__name__}."
        )
    if tuple(found.shape) != (len(graphs),):
        raise ValueError(
            f"expected the statistic {name} to give one number for each of {len(graphs)} adjacency "
            f"matrices, shape ({len(graphs)},), got {tuple(found.shape)}. Sum over the two "
            "dimensions of the nodes, and over no other: .sum((-2, -1))."
        )
    return found


_COUNTS = {"edges": _edges, "two_stars": _two_stars, "triangles": _triangles}


def _function(pair: Any) -> Statistic:
    if isinstance(pair, tuple) and len(pair) == 2 and callable(pair[0]):
        function: Any = pair[0]
        return function
    raise TypeError(
        f"expected each of statistics to be a pair (function, coefficient), got {pair!r}. "
        "The function takes adjacency matrices [N, n, n] and returns [N]."
    )
