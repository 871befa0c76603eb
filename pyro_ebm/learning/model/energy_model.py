"""An estimator of densities after scikit-learn's conventions, learned as an energy.

    model = EnergyModel(random_state=0).fit(X)
    model.score_samples(X_new)        # nats a row
    model.sample(1000), model.impute(X_with_nan), model.anomaly_score(X_new)

Columns become coordinates near a standard normal, or numbers of states (:mod:`.columns`); an energy
E over these is learned (:mod:`.learn_rows`); and the density of a row in its own units is

    log p(x) = -E(z(x))/T - log Z + log |dz/dx|.

With labels, the label is one more coordinate: p(y | x) is exp(-E(x, y)) over its sum over y, and
p(x) that sum.

Source: Grathwohl et al. (2020), Your classifier is secretly an energy based model and you should
treat it like one, for the joint energy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ebm.annealing import LogZ
from pyro_ebm.energies import Energy
from pyro_ebm.learning.annealed_likelihood import AnnealedLikelihood
from pyro_ebm.learning.exact_likelihood import ExactLikelihood
from pyro_ebm.learning.noise_contrastive import NoiseContrastive
from pyro_ebm.learning.persistent_contrastive_divergence import PersistentContrastiveDivergence
from pyro_ebm.learning.trained import Trained
from pyro_ebm.mcmc.api.arguments import check_whole

from .columns import read_columns
from .estimator import Estimator, generator_of, not_fitted
from .filling import conditional_draws, filled_rows
from .labels import read_labels
from .learn_rows import Recipe, base_for, energy_of, learn_rows
from .mixture_base import MixtureBase
from .parameters import check_enough_rows, check_parameters
from .row_density import PARTICLES, RowDensity, UncertainSampleWarning

# Rounds in which missing values of the data are drawn anew, for the base and for the net.
_BASE_ROUNDS, _ROUNDS = 5, 3
_FILL, _COPIES = 50, 20
_BLOCK = 4096


class EnergyModel(Estimator):
    """A density over tables or images, learned as an energy.

    :param energy: "auto", a net that tilts a mixture fitted to the data (convolutions for images);
        or an nn.Module from rows [n, dim], or images, to [n] or [n, 1], which takes its place; or
        an :class:`~pyro_ebm.Energy` of a row, which is taken as it is, in the coordinates of
        rows: a :class:`~pyro_ebm.ClassifierEnergy` with labels, an RBM with binary columns. A copy
        is learned.
    :param objective: "auto", noise-contrastive estimation against the mixture where there is one;
        or an objective of :mod:`pyro_ebm.learning`.
    :param columns: "auto", or "continuous", "binary" or "categorical" for all columns, or one of
        these for each, or {column: kind}. "auto" takes names, booleans, and integers of at most ten
        values for states, and numbers with a fraction for continuous. An array of floats is
        continuous whatever its values, unless they are 0 and 1; in a data frame floats that are
        whole numbers of at most ten values, with some missing, are taken for the integers that
        they were. A continuous column that never changes is a point mass without density: it is
        drawn as it is, and a row with another value there has the density 0; to an energy or a net
        that is given it is a coordinate like the others.
    :param margins: "plain" standardises continuous columns, "normal" makes each bell-shaped;
        "auto" is normal for tables with at least 40 values in every column.
    :param components: of the mixture, a number or numbers among which rows left out choose; each
        takes at least eight rows, and numbers with more are left out.
    :param hidden: widths of the default net's hidden layers; where columns are few and rows many,
        the first sees sines and cosines of them too.
    :param num_steps: steps of learning at most; 0 leaves the mixture as it is.
    :param batch_size: rows of a batch.
    :param learning_rate: of AdamW, at first; it falls to zero by a cosine.
    :param optimizer: instead, what makes an optimiser from a list of parameters.
    :param held_out: the share of rows that say when to stop.
    :param patience: looks, of a hundred in ``num_steps``, without a better loss of these rows after
        which learning ends; None to make all steps.
    :param jitter: standard deviation of noise added to the continuous coordinates of the training
        rows, in their units; "auto" is 0 for tables and 0.1 for images, whose pixels take few
        values and would have no density. What is learned is the density of such blurred data.
    :param temperature: "auto" calibrates it where the objective is no likelihood and takes 1
        elsewhere; "calibrated" always does; or a number.
    :param random_state: None, a seed, or a generator of NumPy or torch.

    :ivar energy_: the energy learned, of rows of coordinates.
    :ivar trained_: what :func:`.fit` gave back, None with ``num_steps=0``; it tells whether the net
        was taken back because rows held out were no likelier with it.
    :ivar base_: the mixture.
    :ivar columns_: what the columns are.
    :ivar temperature_: T, with ``temperature_error_``.
    :ivar log_z_: a :class:`~pyro_ebm.LogZ`, at this temperature, with an error and a verdict; it is
        estimated when it is first asked for.
    :ivar usual_energy_: the median of E/T over the training rows.
    :ivar classes_: the labels, with ``fit(X, y)``.
    :ivar n_features_in_: how many columns there were.
    """

    def __init__(
        self,
        energy: Any = "auto",
        objective: Any = "auto",
        *,
        columns: Any = "auto",
        margins: str = "auto",
        components: Any = "auto",
        hidden: Sequence[int] = (128, 128, 128),
        num_steps: int = 2000,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        optimizer: Any = None,
        held_out: float = 0.1,
        patience: int | None = 20,
        jitter: Any = "auto",
        temperature: Any = "auto",
        random_state: Any = None,
    ) -> None:
        self.energy = energy
        self.objective = objective
        self.columns = columns
        self.margins = margins
        self.components = components
        self.hidden = hidden
        self.num_steps = num_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.held_out = held_out
        self.patience = patience
        self.jitter = jitter
        self.temperature = temperature
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> EnergyModel:
        """Learn from rows, and from their labels if there are any.

        :param X: a table [n, columns] or images [n, h, w] or [n, channels, h, w]: an array, a
            tensor, a data frame. NaN is a missing value: it is drawn given the rest of its row, in
            rounds.
        :param y: labels [n], names or whole numbers, or None.
        :raises TypeError, ValueError: no such rows, and parameters outside of their range.
        """
        self._check()
        stream = generator_of(self.random_state)
        # An energy that is given has a coordinate for every column.
        left_out = not isinstance(self.energy, torch.nn.Module)
        columns = read_columns(X, self.columns, margins=self.margins, point_masses=left_out)
        rows, names = columns.rows(X), columns.form.names
        self.columns_, self.n_features_in_ = columns, len(columns.form.dtypes)
        self.__dict__.pop("classes_", None)
        if names is not None and all(isinstance(each, str) for each in names):
            self.feature_names_in_ = np.array(names, dtype=object)
        else:
            self.__dict__.pop("feature_names_in_", None)
        if y is not None:
            rows = torch.cat([rows, self._labels(y, len(rows))], 1)
        if len(rows) < 2:
            raise ValueError(f"expected at least 2 rows, got {len(rows)}: n_samples=1 is too few.")
        check_enough_rows(self.components, len(rows))
        device = stream.device
        rows, self._log_z = rows.to(device), None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=stream, device=device)))
            self._learn(self._blurred(rows, stream), stream)
        self._settle(rows, stream)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """The log density of each row in its own units, in nats; for states, log probability.

        Its error, that of log Z and equal for all rows, is ``log_z_.std_error``; where log Z is not
        reliable, scores tell rows from each other and no more, and a warning says so.

        :param X: rows without missing values.
        :returns: [n]; -inf where a column that never changed in ``fit`` has another value.
        """
        energies, log_slope = self._energies(X), self.columns_.log_slope(X)
        found = self.log_z_
        if not found.reliable:
            warnings.warn(
                f"Scores are right but for one constant, as log Z could not be had: {found.why}",
                UncertainSampleWarning,
                stacklevel=2,
            )
        return (log_slope - energies.cpu() - found.log_z).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log density; with labels, where there were labels in fit, the accuracy."""
        if y is not None and hasattr(self, "classes_"):
            return float(np.mean(self.predict(X) == np.asarray(y)))
        return float(self.score_samples(X).mean())

    def anomaly_score(self, X: Any) -> np.ndarray:
        """How far the energy of each row lies above that usual of the data, in nats; higher is
        stranger."""
        energies = self._energies(X)
        return (energies - self.usual_energy_).cpu().numpy()

    def sample(self, n: int = 1, random_state: Any = None) -> Any:
        """Rows drawn from the learned density, like those of ``fit``; labels are left out.

        Rows are annealed from the mixture and moved on; of an energy without one they are the ends
        of chains that began at the data. :class:`UncertainSampleWarning` tells of weights or of an
        R-hat that speak against them.

        :param n: how many.
        :param random_state: as that of the class, which is taken unless given.
        """
        check_whole("n", n, 1)
        self._fitted()
        stream = generator_of(self.random_state if random_state is None else random_state)
        rows = self._density.sample(n, stream)
        return self.columns_.table(rows[:, : len(self.columns_.levels)])

    def impute(
        self,
        X: Any,
        *,
        num_draws: int | None = None,
        transitions: int = _FILL,
        random_state: Any = None,
    ) -> Any:
        """Rows with their missing values filled in, given the values that are there, which stay
        exactly as they came.

        :param X: rows with NaN, or None in a column of names.
        :param num_draws: None for one table, with the mean of twenty draws in a continuous column
            and the commonest state in another; else a list of so many tables of draws.
        :param transitions: of the chain of each draw.
        """
        self._fitted()
        if num_draws is not None:
            check_whole("num_draws", num_draws, 1)
        check_whole("transitions", transitions, 1)
        stream = generator_of(self.random_state if random_state is None else random_state)
        rows = self._with_labels(self._rows(X))
        filled = filled_rows(
            self._density.tempered,
            rows,
            self.base_,
            num_draws=num_draws or _COPIES,
            transitions=0 if self._density.is_base else transitions,
            generator=stream,
        )
        draws = filled.draws[:, :, : len(self.columns_.levels)]
        if num_draws is not None:
            return [self.columns_.filled(X, each) for each in draws]
        return self.columns_.filled(X, self._averaged(draws))

    def transform(self, X: Any) -> Any:
        """Rows with their missing values filled in: :meth:`impute` with its defaults."""
        return self.impute(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """p(y | x), [n, classes], from E(x, y).

        :raises AttributeError: ``fit`` was without labels.
        """
        return (-self._joint(X)).softmax(1).cpu().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest label of each row."""
        likeliest = self._joint(X).argmin(1).cpu().numpy()
        return self.classes_[likeliest]

    @property
    def log_z_(self) -> LogZ:
        """log Z of exp(-E/T), with its error and a verdict."""
        self._fitted()
        if self._log_z is None:
            self._log_z = self._density.log_z(generator_of(self._seed))
        return self._log_z

    def _check(self) -> None:
        check_parameters(self)

    def _fitted(self) -> None:
        if not hasattr(self, "energy_"):
            raise not_fitted(type(self).__name__)

    def _labels(self, y: Any, number: int) -> Tensor:
        self.classes_, codes = read_labels(y, number)
        return torch.from_numpy(codes)[:, None].to(torch.get_default_dtype())

    @property
    def _num_states(self) -> tuple[int, ...]:
        more = (len(self.classes_),) if hasattr(self, "classes_") else ()
        return self.columns_.num_states + more

    def _blurred(self, rows: Tensor, stream: torch.Generator) -> Tensor:
        amount = self.jitter
        if amount == "auto":
            amount = 0.1 if len(self.columns_.event_shape) > 1 else 0.0
        if not amount:
            return rows
        noise = torch.randn(rows.shape, generator=stream, dtype=rows.dtype, device=rows.device)
        moving = torch.tensor([count == 0 for count in self._num_states], device=rows.device)
        return torch.where(moving, rows + amount * noise, rows)

    def _learn(self, rows: Tensor, stream: torch.Generator) -> None:
        """The mixture, and the energy; what is missing is drawn in rounds of both."""
        recipe = Recipe(
            self.energy,
            self.objective,
            self.components,
            self.hidden,
            self.num_steps,
            self.batch_size,
            self.learning_rate,
            self.optimizer,
            self.held_out,
            self.patience,
        )
        states, missing = self._num_states, rows.isnan()
        some = bool(missing.any())
        whole = _from_others(rows, stream) if some else rows
        base = base_for(whole, states, recipe, stream)
        for _ in range(_BASE_ROUNDS if some else 0):
            whole = conditional_draws(base, rows, stream)
            base = base_for(whole, states, recipe, stream)
        self.base_: MixtureBase = base
        event = self.columns_.event_shape
        energy = energy_of(recipe, base, states, event, num_rows=len(rows))
        self.energy_: Energy = energy.to(rows)
        self.trained_: Trained | None = None
        self._is_mixture = not self.num_steps and isinstance(self.energy, str)
        if not self.num_steps:
            return
        learned = learn_rows(self.energy_, whole, states, recipe, generator=stream)
        for _ in range(_ROUNDS - 1 if some else 0):
            filled = filled_rows(
                self.energy_,
                rows,
                base,
                num_draws=1,
                transitions=0 if learned.is_mixture else _FILL,
                generator=stream,
            )
            learned = learn_rows(self.energy_, filled.draws[0], states, recipe, generator=stream)
        self.trained_, self._is_mixture = learned

    def _settle(self, rows: Tensor, stream: torch.Generator) -> None:
        """The temperature, what energy is usual, and rows to begin chains from."""
        self._seed = int(torch.randint(2**31, (), generator=stream, device=stream.device))
        whole = (
            rows if not bool(rows.isnan().any()) else conditional_draws(self.base_, rows, stream)
        )
        density = RowDensity(
            self.energy_,
            1.0,
            self._num_states,
            self.base_,
            whole[torch.randperm(len(whole), generator=stream, device=stream.device)[:PARTICLES]],
            is_mixture=self._is_mixture,
        )
        self.temperature_, self.temperature_error_ = 1.0, 0.0
        if isinstance(self.temperature, float | int):
            self.temperature_ = float(self.temperature)
        elif self.temperature == "calibrated" or not self._likelihood():
            self.temperature_, self.temperature_error_ = density.calibrated(stream)[:2]
        self._density = density._replace(temperature=self.temperature_)
        if self.trained_ is not None:
            self.trained_ = self.trained_._replace(
                temperature=self.temperature_, temperature_error=self.temperature_error_
            )
        energies = self._of_rows(whole[:, : self.n_features_in_])
        self.usual_energy_ = float(energies.double().quantile(0.5))

    def _likelihood(self) -> bool:
        """Whether what was minimised has the density itself at its minimum."""
        given = self.objective
        if isinstance(given, PersistentContrastiveDivergence):
            return given.sampler == "auto"
        exact = ExactLikelihood | AnnealedLikelihood | NoiseContrastive
        return given == "auto" or isinstance(given, exact) or self.trained_ is None

    def _energies(self, X: Any) -> Tensor:
        """E/T of rows of a table, labels summed out."""
        self._fitted()
        rows = self._rows(X)
        if bool(rows.isnan().any()):
            raise ValueError(
                "expected rows without missing values, got NaN, which has no density. Fill them "
                "in: model.impute(X)."
            )
        found = self._of_rows(rows)
        return found.masked_fill(self.columns_.off(X).to(found.device), math.inf)

    def _of_rows(self, rows: Tensor) -> Tensor:
        rows = rows[:, : len(self.columns_.levels)]
        if hasattr(self, "classes_"):
            return -(-self._by_label(rows)).logsumexp(1)
        with torch.no_grad():
            parts = [self._density.tempered(part).double() for part in rows.split(_BLOCK)]
        return torch.cat(parts)

    def _by_label(self, rows: Tensor) -> Tensor:
        """E(x, y)/T of every row with every label, [n, classes]."""
        labels = torch.arange(len(self.classes_)).to(rows)
        found = []
        with torch.no_grad():
            for part in rows.split(_BLOCK):
                every = [
                    self._density.tempered(
                        torch.cat([part, label.expand(len(part), 1)], 1)
                    ).double()
                    for label in labels
                ]
                found.append(torch.stack(every, 1))
        return torch.cat(found)

    def _joint(self, X: Any) -> Tensor:
        self._fitted()
        if not hasattr(self, "classes_"):
            raise AttributeError(
                "expected a model that was fitted with labels: write fit(X, y) before predict."
            )
        rows = self._rows(X)
        if bool(rows.isnan().any()):
            raise ValueError("expected rows without missing values. Fill them in: impute(X).")
        return self._by_label(rows)

    def _rows(self, X: Any) -> Tensor:
        """Rows of coordinates where the energy is."""
        return self.columns_.rows(X).to(self.base_.log_weights.device)

    def _with_labels(self, rows: Tensor) -> Tensor:
        """Rows with a label that is missing, where the energy has labels."""
        if not hasattr(self, "classes_"):
            return rows
        return torch.cat([rows, rows.new_full((len(rows), 1), math.nan)], 1)

    def _averaged(self, draws: Tensor) -> Tensor:
        """Rows of draws [m, n, columns]: means, and commonest states."""
        found = draws[0].double().cpu()
        for place, count in enumerate(self.columns_.num_states):
            if count:
                found[:, place] = draws[:, :, place].mode(0).values
        # Means are taken in the units of the data, and go through the coordinates once more.
        columns, margins = self.columns_.continuous, self.columns_.margins
        total = sum(margins.inverse(each[:, columns].double().cpu()) for each in draws)
        found[:, columns] = margins.forward(torch.as_tensor(total / len(draws)))
        return found


def _from_others(rows: Tensor, stream: torch.Generator) -> Tensor:
    """Rows whose missing values are those of other rows, drawn column by column."""
    found = rows.clone()
    for place in range(rows.shape[1]):
        missing = rows[:, place].isnan()
        seen = rows[~missing, place]
        drawn = torch.randint(
            len(seen), (int(missing.sum()),), generator=stream, device=stream.device
        )
        found[missing, place] = seen[drawn]
    return found
