"""What learning gives back: the energy, how it went, and what is known of its normaliser."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from pyro_ebm.energies import Energy
from pyro_ebm.inference_data import to_inference_data

from .temperature import calibrate_temperature

GROUP = "learning"


class Trained(NamedTuple):
    """A finished, interrupted or diverged run of :func:`.fit`.

    :ivar energy: the energy, whose parameters were learned in place.
    :ivar history: by name an array [looks]: ``step, loss, gradient_norm, data_energy, gap, spread,
        held_out, held_out_gap, log_likelihood, acceptance``; NaN where there is no such number.
        ``gap`` is the mean energy of chains, or noise, over that of the data, ``held_out`` the loss
        of the rows held out (of contrastive divergence, which has none, that of
        pseudo-likelihood or of denoising), ``held_out_gap`` their mean energy over that of the
        training rows, and ``log_likelihood`` theirs in nats a row.
    :ivar log_z: log Z of the energy where learning has found it, with ``log_z_error``; else None.
    :ivar diverged: whether learning diverged: the parameters are then the last good ones.
    :ivar why: a sentence on how it ended.
    :ivar advice: sentences on what to mend.
    :ivar negatives: configurations of the lasting chains at the end [chains, *event], or None.
    :ivar kept_negatives: and at the last looks [looks, chains, *event], or None.
    :ivar temperature: T at which exp(-E/T) is the density that was learned: 1, as maximum
        likelihood has it, until :meth:`calibrated` has found it, which other objectives and chains
        that make errors need. ``log_z`` is at T = 1 all the same.
    :ivar temperature_error: the standard error of a calibrated temperature.
    """

    energy: Energy
    history: dict[str, np.ndarray]
    log_z: float | None
    log_z_error: float | None
    diverged: bool
    why: str
    advice: tuple[str, ...]
    negatives: Tensor | None
    kept_negatives: Tensor | None
    temperature: float = 1.0
    temperature_error: float = 0.0

    def __repr__(self) -> str:
        steps = int(self.history["step"][-1]) if len(self.history["step"]) else 0
        known = "" if self.log_z is None else f", log Z {self.log_z:.3f}"
        return f"Trained({type(self.energy).__name__}, {steps} steps{known}: {self.why})"

    def calibrated(self, data: Any, **options: Any) -> Trained:
        """The same with the temperature at which the energy has the mean energy of data.

        ``held_out_log_likelihood(trained.energy, rows, temperature=trained.temperature)`` is then
        the log likelihood of the density that was learned. Where the temperature is not reliable,
        ``advice`` says why, and a warning does.

        :param data: rows [n, *event], best those that were not learned from.
        :param options: those of :func:`.calibrate_temperature`.
        :raises TypeError, ValueError: as that does.
        """
        found = calibrate_temperature(self.energy, data, **options)
        calibrated = self._replace(temperature=found.temperature, temperature_error=found.error)
        if found.reliable:
            return calibrated
        told = f"The calibrated temperature is not reliable: {found.why}"
        warnings.warn(told, stacklevel=2)
        return calibrated._replace(advice=(*self.advice, told))

    def to_arviz(self) -> Any:
        """ArviZ data: the lasting chains at the last looks as ``x``, and the group ``learning``.

        Draws are looks, at which the energy was another each time: chains that mix say that
        learning had good draws, and no more.
        """
        groups: dict[str, dict[str, np.ndarray]] = {}
        if self.kept_negatives is not None:
            values = self.kept_negatives.cpu().numpy()
            groups["posterior"] = {"x": np.moveaxis(values, 0, 1)}
        groups[GROUP] = {name: value for name, value in self.history.items() if name != "step"}
        return to_inference_data(
            groups,
            dims={f"{GROUP}/{name}": ("step",) for name in groups[GROUP]},
            coords={"step": self.history["step"]},
            attrs={
                "inference_library": "pyro_ebm",
                "log_z": self.log_z,
                "log_z_error": self.log_z_error,
                "diverged": self.diverged,
                "why": self.why,
                "advice": list(self.advice),
                "temperature": self.temperature,
                "temperature_error": self.temperature_error,
            },
            plain_groups=(GROUP,),
        )
