"""Targets in closed form, or within reach of quadrature to rounding; each made by its name."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import distributions as dist
from torch.distributions import constraints

from pyro_ebm import EnergyDistribution, MuellerBrown, Phi4

from . import known_energies
from .case import Case
from .catalogue import NUMBERS


def numbers(name: str) -> Any:
    """What is known of a target or a family of them."""
    return json.loads((NUMBERS / "normalisers" / "closed_form.json").read_text())[name]


def gaussian_20d(name: str) -> Case:
    known = numbers(name)
    energy = partial(known_energies.gaussian, scales=torch.tensor(known["scales"]))
    return Case(name, EnergyDistribution(energy, (20,)), (), known["log_z"])


def funnel_10d(name: str) -> Case:
    model = EnergyDistribution(known_energies.funnel, (10,))
    return Case(name, model, (), numbers(name)["log_z"], most_error=0.1)


def many_well_32d(name: str) -> Case:
    model = EnergyDistribution(known_energies.many_well, (32,))
    return Case(name, model, (), numbers(name)["log_z"])


def mixture_40_box(name: str) -> Case:
    known = numbers("mixture_40")
    energy = partial(known_energies.gaussian_mixture, means=torch.tensor(known["means"]))
    model = EnergyDistribution(energy, (2,), support=constraints.interval(-50.0, 50.0))
    return Case(name, model, (), known["log_z"])


def mixture_40_plane(name: str) -> Case:
    known = numbers("mixture_40")
    energy = partial(known_energies.gaussian_mixture, means=torch.tensor(known["means"]))
    base = dist.Normal(0.0, 30.0).expand([2])
    return Case(
        name,
        EnergyDistribution(energy, (2,)),
        (),
        known["log_z"],
        base=dist.Independent(base, 1),
    )


def phi4_ring_16(name: str) -> Case:
    known = numbers(name)
    field = Phi4.lattice((16,), quadratic=known["quadratic"], quartic=known["quartic"])
    return Case(name, EnergyDistribution(field), (), known["log_z"])


def student_t(df: str, name: str) -> Case:
    known = numbers("student_t")[df]
    energy = partial(known_energies.student_t, df=known["df"])
    return Case(name, EnergyDistribution(energy), (), known["log_z"])


def double_well(key: str, name: str) -> Case:
    known = numbers("double_well")[key]
    energy = partial(known_energies.double_well, tilt=known["tilt"])
    model = EnergyDistribution(energy, temperature=known["temperature"])
    return Case(name, model, (), known["log_z"])


def mueller_brown(key: str, name: str) -> Case:
    known = numbers("mueller_brown")[key]
    model = EnergyDistribution(MuellerBrown(), temperature=known["temperature"])
    return Case(name, model, (), known["log_z"])


CLOSED_FORMS: dict[str, Callable[[str], Case]] = {
    "gaussian_20d": gaussian_20d,
    "funnel_10d": funnel_10d,
    **{f"student_t_{df}": partial(student_t, df) for df in ("1", "2", "3", "5", "10")},
    **{
        f"double_well_{tilt}_{beta}": partial(double_well, f"{tilt}_{beta}")
        for tilt in ("0.0", "0.5", "1.0", "2.0")
        for beta in ("1.0", "3.0")
    },
    "many_well_32d": many_well_32d,
    "mixture_40_box": mixture_40_box,
    "mixture_40_plane": mixture_40_plane,
    "phi4_ring_16": phi4_ring_16,
    **{f"mueller_brown_{kt}": partial(mueller_brown, kt) for kt in ("10", "15", "25", "50")},
}
