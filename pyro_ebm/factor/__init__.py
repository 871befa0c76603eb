"""Energies as factors of a Pyro model."""

from .statement import energy_factor as energy_factor
