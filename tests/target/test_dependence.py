"""What depends on what: nothing that a site depends on is missed, however it is computed."""

from collections.abc import Callable, Mapping

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_ebm.target import Side, Target
from pyro_ebm.target.dependence import dependencies
from pyro_ebm.target.discrete_draws import draw_discrete

from . import models

Values = Mapping[str, Tensor]


def written(v: Values) -> Tensor:
    rows = torch.stack([v["a"], v["a"]])
    rows[0].mul_(v["b"])
    return rows[1]


WAYS: dict[str, tuple[Callable[[Values], Tensor], set[str]]] = {
    "comparison": (lambda v: (v["a"] > 7).float(), {"a"}),
    "where": (lambda v: torch.where(v["a"] > 7, 1.0, 0.0), {"a"}),
    "integer": (lambda v: v["b"].long(), {"b"}),
    "index": (lambda v: v["a"][v["b"].long()], {"a", "b"}),
    "order": (lambda v: v["a"].argsort(), {"a"}),
    "detached": (lambda v: v["a"].detach(), {"a"}),
    "written-in-place": (written, {"a", "b"}),
    "inner-vmap": (lambda v: torch.func.vmap(lambda x: x * v["b"])(v["a"]), {"a", "b"}),
    "constant": (lambda v: torch.ones(3) * 2, set()),
    "shape": (lambda v: torch.ones(v["a"].shape), set()),
}


@pytest.mark.parametrize(("way", "expected"), WAYS.values(), ids=WAYS)
def test_a_value_depends_on_all_that_it_is_made_of(way: Callable, expected: set[str]):
    inputs = {"a": torch.zeros(2), "b": torch.zeros(()), "c": torch.zeros(())}
    assert dependencies(lambda v: {"out": way(v)}, inputs) == {"out": frozenset(expected)}


@pytest.mark.parametrize("way", [lambda v: v["a"].sum().item(), lambda v: v["a"].numpy().sum()])
def test_numbers_do_not_leave_their_tensors_unseen(way: Callable):
    with pytest.raises(RuntimeError):
        dependencies(lambda v: {"out": torch.as_tensor(way(v))}, {"a": torch.zeros(2)})


def steps() -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    pyro.sample("more", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    pyro.deterministic("big", (mu > 0).float())
    pyro.deterministic("size", torch.where(mu > 3, 2, 1))
    pyro.deterministic("constant", torch.ones(()))


def test_deterministic_sites_that_compare_depend_on_what_they_compare():
    target = Target.from_model(steps)
    assert target.coordinates_of(["big"]).tolist() == [0]
    assert target.coordinates_of(["size"]).tolist() == [0]
    assert target.coordinates_of(["constant"]).tolist() == []
    assert target.coordinates_of(["constant", "more"]).tolist() == [1, 2]


def test_a_site_depends_on_what_its_support_depends_on():
    assert Target.from_model(models.triangle).coordinates_of(["b"]).tolist() == [0, 1]


def test_a_model_that_hides_what_it_reads_keeps_everything():
    def model() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(0.0, 1.0))
        pyro.deterministic("sign", torch.tensor(1.0 if x > 0 else -1.0))

    with pytest.warns(UserWarning, match="chain by chain"):
        target = Target.from_model(model)
    assert target.coordinates_of(["sign"]).tolist() == [0, 1]


def test_sites_of_an_energy_and_a_potential_depend_on_themselves():
    target = Target.from_potential(
        lambda z: z["a"].square().sum() + z["b"].square(),
        {"a": torch.zeros(2), "b": torch.ones(())},
    )
    assert target.coordinates_of(["b"]).tolist() == [2]
    assert Target.from_energy(lambda x: x.square()).coordinates_of(["x"]).tolist() == [0]


def states() -> None:
    loc = pyro.sample("loc", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
    pyro.deterministic("gap", loc[1] - loc[0])
    with pyro.plate("data", 4):
        z = pyro.sample("z", dist.Bernoulli(weight))
        centre = pyro.deterministic("centre", loc[z.long()], event_dim=0)
        pyro.sample("y", dist.Normal(centre, 1.0), obs=models.DATA)
    pyro.deterministic("fraction", z.mean())


def test_what_depends_on_a_discrete_site_needs_every_coordinate():
    target = Target.from_model(states)
    assert target.coordinates_of(["gap"]).tolist() == [0, 1]
    assert target.coordinates_of(["weight"]).tolist() == [2]
    for name in ("z", "centre", "fraction"):
        assert target.coordinates_of([name]).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"could be kept; those are \['centre', .* 'z'\]"):
        target.coordinates_of(["y"])


def test_constrained_values_have_no_enumerated_axes():
    target = Target.from_model(states)
    positions = torch.randn(5, 3)
    values = target.constrain(positions)
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    assert shapes == {"loc": (5, 2), "weight": (5,), "gap": (5,)}
    drawn = draw_discrete(target, positions)
    found = target.evaluate(positions, Side(values=drawn)).deterministics
    torch.testing.assert_close(found["centre"], values["loc"].gather(1, drawn["z"].long()))
    torch.testing.assert_close(found["fraction"], drawn["z"].mean(-1))
