"""Energies as densities in Pyro: declare them, sample them, judge the result in ArviZ."""

__all__: list[str] = []
