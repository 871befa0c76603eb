"""Where a model runs. The device "meta" stands in for a GPU: its tensors have no values."""

import pytest
import torch

from pyro_ebm.target.device import on_its_device

AWAY = torch.empty(3, device="meta")
HERE = torch.empty(3)


def made(*args, **kwargs):
    return torch.tensor(0.0)


class Net(torch.nn.Linear):
    def forward(self, *args):
        return torch.zeros(2)


@pytest.mark.parametrize(
    ("model", "args", "kwargs"),
    [
        (made, (HERE, AWAY), {}),
        (made, ({"y": [HERE, AWAY]},), {}),
        (made, (), {"y": AWAY}),
        (made, (torch.nn.Linear(2, 2, device="meta"),), {}),
        (Net(2, 2, device="meta"), (HERE,), {}),
    ],
)
def test_numbers_become_tensors_where_the_data_or_the_weights_are(model, args, kwargs):
    assert on_its_device(model, args, kwargs)(*args, **kwargs).device.type == "meta"
    assert torch.zeros(()).device.type == "cpu"


def test_a_model_on_the_cpu_is_left_as_it_is():
    assert on_its_device(made, (HERE, 1, "a"), {"b": None}) is made
