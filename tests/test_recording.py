"""Recordings: the same operations as the function, on whatever they are given."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from pyro_ebm.recording import is_recording, moving, recorded


def same(function, *inputs: Tensor) -> None:
    """The recording, made at other numbers, gives what the function gives."""
    graph = recorded(function, [torch.randn_like(each) for each in inputs])
    for found, right in zip(graph(*inputs), function(*inputs), strict=True):
        torch.testing.assert_close(found, right)


def gradient(x: Tensor) -> list[Tensor]:
    z = x.detach().requires_grad_()
    value = (torch.func.vmap(lambda row: (row * row.exp()).cumsum(0).sum())(z)).sum()
    return [value.detach(), *torch.autograd.grad(value, z)]


def in_place(x: Tensor) -> list[Tensor]:
    y = x.clone()
    y[1:].mul_(2.0)
    torch.add(y[0], 1.0, out=y[1])
    return [y, x]


def same_views(x: Tensor) -> list[Tensor]:
    y = x.clone()
    y.expand(3, 3).view(3, 3)[0].mul_(2.0)
    turned = (x.view(3, 3) + 0j).conj().expand(3, 3)
    return [y.permute(0, 1), y.T, turned.imag, torch.complex(x, x).conj().resolve_conj().imag]


def many_outputs(x: Tensor) -> list[Tensor]:
    values, places = x.sort(dim=-1)
    first, second = values.split([1, 2], dim=-1)
    return [first, second * places[..., 1:], *torch.linalg.qr(x)]


def with_numbers(x: Tensor) -> list[Tensor]:
    limit = torch.tensor(2.0)
    return [x * limit if limit + 1.0 > 2.5 else x]


@pytest.mark.parametrize("function", [gradient, in_place, same_views, many_outputs, with_numbers])
def test_a_recording_does_what_the_function_does(function):
    same(function, torch.randn(3, 3))


def test_what_is_read_from_outside_is_read_again():
    data, weight = torch.ones(3), nn.Parameter(torch.ones(3))
    graph = recorded(lambda x: [x + data.sum() * weight], [torch.zeros(3)])
    data.fill_(2.0)
    with torch.no_grad():
        weight.fill_(3.0)
    assert graph(torch.zeros(3))[0].tolist() == [18.0] * 3


def test_an_output_that_is_an_input_or_from_outside():
    data = torch.ones(2)
    graph = recorded(lambda x: [x, data], [torch.zeros(2)])
    x = torch.randn(2)
    assert torch.equal(graph(x)[0], x)
    assert graph(x)[1] is data


def test_random_numbers_are_drawn_anew():
    graph = recorded(lambda x: [x + torch.randn(4)], [torch.zeros(4)])
    assert not torch.equal(*(graph(torch.zeros(4))[0] for _ in range(2)))


@pytest.mark.parametrize(
    "take", [lambda x: x.sum().item(), lambda x: bool((x > 0).all()), lambda x: torch.equal(x, x)]
)
def test_a_number_taken_out_of_what_moves_is_refused(take):
    with pytest.raises(RuntimeError, match="takes a number out of a tensor that is recorded"):
        recorded(lambda x: [x * take(x * 2.0)], [torch.ones(3)])


def test_a_number_from_outside_may_be_looked_at():
    number = torch.tensor(4.0)
    graph = recorded(lambda x: [x * number.item()], [torch.zeros(2)])
    assert graph(torch.ones(2))[0].tolist() == [4.0, 4.0]


def test_random_numbers_and_results_of_data_may_not_be_looked_at():
    data = torch.ones(3)
    for take in (lambda: torch.rand(()).item(), lambda: data.sum().item()):
        with pytest.raises(RuntimeError, match="takes a number"):
            recorded(lambda x, take=take: [x * take()], [torch.ones(3)])


def test_whether_anything_is_recorded_and_what_of_it_moves():
    data, found = torch.ones(2), []

    def function(x: Tensor) -> list[Tensor]:
        moves = moving()
        found.extend(
            [is_recording(), moves(x), moves(x + 1.0), moves(data), moves(torch.tensor(1.0))]
        )
        return [x]

    assert not is_recording()
    assert not moving()(data)
    recorded(function, [torch.zeros(2)])
    assert found == [True, True, True, False, False]


def test_sampling_imports_neither_a_compiler_nor_what_is_as_slow():
    code = (
        "import sys, pyro, pyro.distributions as dist, pyro_ebm as ebm\n"
        "def model():\n"
        "    pyro.sample('x', dist.Normal(0.0, pyro.sample('scale', dist.LogNormal(0.0, 1.0))))\n"
        "    pyro.sample('share', dist.Beta(2.0, 2.0))\n"
        "ebm.MCMC(ebm.NUTS(model), 10, 10, disable_progbar=True).run()\n"
        "slow = 'torch._dynamo', 'torch._inductor', 'sympy', 'scipy.stats', 'arviz'\n"
        "print([name for name in slow if name in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout.strip() == "[]"


def test_what_only_looks_again_is_no_operation():
    graph = recorded(lambda x: [x.expand(3).view(3).detach() * 2.0], [torch.zeros(3)])
    assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_function", "output"]
