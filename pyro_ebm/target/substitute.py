"""The messengers that put a position into a running model.

A latent site takes its part of the position through the bijection of its support, rebuilt at every
run. The first run has no position: there discrete sites are held at their first state, whether
they will be summed out or sampled, and the continuous ones are laid out, each with its own shape
and dtype. A Delta is no latent site: its value is determined by others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Size, Tensor
from torch.distributions import Transform

from pyro_ebm.normalizers import finite_states, like_of
from pyro_ebm.shapes import unconstrained_shape

from .determined import delta_of
from .enumeration import is_subsample
from .layout import Site, bijection, vectorised_plates


class Substitute(Messenger):
    """Give every continuous latent site the value that the position holds for it.

    Without a layout it lays the sites out as it meets them, at the unconstrained origin.
    """

    def __init__(
        self,
        parts: Mapping[str, Tensor] | None,
        sites: Mapping[str, Site] | None,
        values: Mapping[str, Tensor],
        *,
        transforms: Mapping[str, Transform],
        choose: Callable[[dict], Tensor] | None = None,
        enumerating: bool = False,
    ) -> None:
        super().__init__()
        self.parts = parts
        self.known = sites
        self.values = values
        self.transforms = transforms
        self.choose = choose
        self.enumerating = enumerating
        self.laid_out: dict[str, Site] = {}
        self.chosen: dict[str, Tensor] = {}
        self.log_det: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        if name in self.values:
            msg["value"] = self.values[name]
            msg["done"] = True
            return
        if msg["done"] or msg["is_observed"] or msg["value"] is not None:
            return
        fn = msg["fn"]
        if delta_of(fn) is not None:
            return
        if name in self.transforms:
            transform = self.transforms[name].inv
        else:
            transform = bijection(fn.support, name)
        unconstrained = self._unconstrained(msg, transform)
        value: Any = transform(unconstrained)
        if value.shape != self.laid_out[name].shape:
            raise ValueError(
                f"The support of site '{name}' depends on an enumerated discrete site: its value "
                f"has shape {tuple(value.shape)} where {tuple(self.laid_out[name].shape)} is the "
                "site's own. Write the site on a fixed support, scaled where it is used."
            )
        self.log_det[name] = transform.log_abs_det_jacobian(unconstrained, value)
        msg["value"] = value
        msg["done"] = True

    def _unconstrained(self, msg: Any, transform: Transform) -> Tensor:
        name, fn = msg["name"], msg["fn"]
        if self.known is not None:
            if name not in self.known:
                raise ValueError(
                    f"The model met the latent site '{name}' that it did not have at its first "
                    "run. A model whose sites depend on the values of other sites has no fixed "
                    "dimension; write it with a fixed set of sites."
                )
            assert self.parts is not None
            site = self.known[name]
            shape = tuple(fn.shape())
            # Below an enumerated site the distribution has its states on the left: they belong to
            # the log probability, and the value is one for all of them.
            if shape[len(shape) - len(site.shape) :] != tuple(site.shape) or (
                len(shape) > len(site.shape) and not self.enumerating
            ):
                raise ValueError(
                    f"Site '{name}' had shape {tuple(site.shape)} at the first run and "
                    f"{shape} now. Shapes must not depend on the values of sites."
                )
            self.laid_out[name] = site
            return self.parts[name]
        shape, like = unconstrained_shape(transform, fn.shape()), like_of(fn)
        offset = sum(site.size for site in self.laid_out.values())
        self.laid_out[name] = Site(
            name,
            offset,
            Size(shape),
            Size(fn.shape()),
            fn.event_dim,
            vectorised_plates(msg["cond_indep_stack"]),
            like.dtype,
            like.device,
        )
        if self.choose is None:
            unconstrained = like.new_zeros(shape)
        else:
            unconstrained = self.choose({**msg, "transform": transform})
        self.chosen[name] = unconstrained.to(like).reshape(shape)
        return self.chosen[name]


class HoldDiscrete(Messenger):
    """Hold discrete latent sites at their first state, and note them and how deep plates nest.

    ``discrete`` has the values by name, ``found`` what a discrete site's coordinates are if it is
    sampled, ``enumerable`` the names of those that Pyro can enumerate, ``marked`` of those that the
    user has marked so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.discrete: dict[str, Tensor] = {}
        self.found: dict[str, Site] = {}
        self.enumerable: set[str] = set()
        self.marked: set[str] = set()
        self.nesting = 0

    def _pyro_sample(self, msg: Any) -> None:
        plates = vectorised_plates(msg["cond_indep_stack"])
        for plate in plates:
            self.nesting = max(self.nesting, -plate.dim)
        if msg["is_observed"] or msg["value"] is not None or is_subsample(msg):
            return
        fn, name = msg["fn"], msg["name"]
        states = finite_states(fn) if delta_of(fn) is None else None
        if states is None:
            return
        msg["value"] = self.discrete[name] = states.first
        msg["done"] = True
        if fn.has_enumerate_support:
            self.enumerable.add(name)
        if msg["infer"].get("enumerate") is not None:
            self.marked.add(name)
        values = states.values
        self.found[name] = Site(
            name,
            0,
            states.shape,
            torch.Size(fn.shape()),
            fn.event_dim,
            plates,
            values.dtype,
            values.device,
            values,
        )
