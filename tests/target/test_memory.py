"""What was recorded is gone with the target that recorded it."""

import gc

import torch

import pyro_ebm as ebm


def recorded_once(offset):
    target = ebm.Target.from_energy(lambda x: 0.5 * (x - offset).square().sum(), event_shape=(3,))
    positions = torch.zeros(3, 8)
    return target.recorded.at(positions)(positions)


def test_recordings_are_not_kept_by_the_process():
    """TorchScript's common unit holds every function that was ever compiled into it."""
    recorded_once(torch.zeros(3))
    before = len(torch.jit._state._python_cu.get_functions())
    for number in range(3):
        recorded_once(torch.full((3,), float(number)))
    gc.collect()
    assert len(torch.jit._state._python_cu.get_functions()) == before
