"""What a search for minima found, and the table that it prints as."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

# Lines of the table, and numbers of a position in one of them.
_ROWS, _NUMBERS = 8, 6


class Minima(NamedTuple):
    """Distinct minima, lowest energy first.

    ``positions``: configurations [minima, *event] of an energy, or by latent site of a model its
    values [minima, *shape]. ``energies``: E(x) of an energy; of a model minus the log joint density
    of those values. ``counts``: how many starts ended there. ``converged``: whether it is a
    minimum; where it is not, the energy may fall farther, or without end. A minimum at a border of
    the support lies there to rounding.
    """

    positions: Tensor | dict[str, Tensor]
    energies: Float[Tensor, " minima"]
    counts: Int[Tensor, " minima"]
    converged: Bool[Tensor, " minima"]

    def __repr__(self) -> str:
        number = len(self.energies)
        head = ("energy", "starts", "converged", "position")
        rows = [head, *(self._row(index) for index in range(min(number, _ROWS)))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"Minima: {number} from {int(self.counts.sum())} starts"]
        for row in rows:
            cells = [cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)]
            lines.append("  ".join(["", *cells, row[-1]]))
        if number > _ROWS:
            lines.append(f"  ... and {number - _ROWS} more")
        return "\n".join(lines)

    def _row(self, index: int) -> tuple[str, str, str, str]:
        energy, count = float(self.energies[index]), int(self.counts[index])
        converged = "yes" if bool(self.converged[index]) else "no"
        return _plain(energy, 6), str(count), converged, self._position(index)

    def _position(self, index: int) -> str:
        if isinstance(self.positions, Tensor):
            return _numbers(self.positions[index])
        parts = self.positions.items()
        return ", ".join(f"{name} {_numbers(value[index])}" for name, value in parts)


def _plain(number: float, digits: int) -> str:
    """So many digits; zero has no sign, which tells nothing of a minimum."""
    return f"{number + 0.0:.{digits}g}"


def _numbers(value: Tensor) -> str:
    shown = [_plain(float(number), 4) for number in value.reshape(-1)[:_NUMBERS]]
    if not value.dim():
        return shown[0]
    more = ", ..." if value.numel() > _NUMBERS else ""
    return f"[{', '.join(shown)}{more}]"
