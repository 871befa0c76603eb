"""The classifier two-sample test: can generated rows be told from held-out ones?

As many generated rows as held-out ones are given to a classifier, which is judged by its accuracy
on folds that it was not fitted on: one half where the two are alike, more where it finds what tells
them apart. Trees see columns and thresholds, neighbours see distances. Which rows are drawn and how
they are split is chance, so it is done many times over.

Source: Lopez-Paz, Oquab (2017), Revisiting classifier two-sample tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .rows import Rows, check_count, choose, flat_alike, seed_from

# Of a tree: with scikit-learn's 31 small samples are learned by heart, and shifts are missed.
_LEAVES = 8


class TwoSampleAccuracy(NamedTuple):
    """Cross-validated accuracies of classifiers, by name.

    ``accuracies`` [repeats] has one for each draw and split, ``num_rows`` is how many rows of each
    kind there were. Of equal distributions an accuracy is near one half; while the held-out rows
    are the same in every repeat, no repeats bring the error of its mean below about
    0.25 / sqrt(num_rows).
    """

    accuracies: dict[str, Float[Tensor, " repeats"]]
    num_rows: int

    @property
    def mean(self) -> dict[str, float]:
        """The mean accuracy of each classifier."""
        return {name: float(values.mean()) for name, values in self.accuracies.items()}

    @property
    def spread(self) -> dict[str, float]:
        """The standard deviation of each over draws and splits."""
        return {
            name: float(values.std(correction=int(len(values) > 1)))
            for name, values in self.accuracies.items()
        }

    def __repr__(self) -> str:
        spread = self.spread
        told = [f"{name} {mean:.3f} ± {spread[name]:.3f}" for name, mean in self.mean.items()]
        return f"accuracy: {', '.join(told)} ({self.num_rows} rows of each kind)"


def classifier_two_sample_test(
    generated: Rows,
    held_out: Rows,
    *,
    classifiers: Mapping[str, Any] | str = "auto",
    folds: int = 5,
    repeats: int = 20,
    generator: torch.Generator | None = None,
) -> TwoSampleAccuracy:
    """How well classifiers tell generated rows from held-out ones.

    A repeat draws rows without replacement, as many of each kind as the smaller kind has, so that
    of many generated rows each repeat sees others.

    :param generated: rows [n, *event].
    :param held_out: rows [m, *event].
    :param classifiers: scikit-learn classifiers by name; "auto" takes boosted trees, and the five
        nearest neighbours with standardised columns.
    :param folds: of the cross-validation.
    :param repeats: draws and splits.
    :param generator: the random stream; torch's global one by default.
    :raises ImportError: scikit-learn is missing.
    :raises TypeError: no rows of real numbers, no classifiers.
    :raises ValueError: fewer rows than folds, of different shapes, or not finite.
    """
    check_count("folds", folds, least=2)
    check_count("repeats", repeats, least=1)
    made = _usual(classifiers)
    from sklearn.base import clone
    from sklearn.model_selection import StratifiedKFold

    fake, real = flat_alike(folds, generated=generated, held_out=held_out)
    number = min(len(fake), len(real))
    labels = torch.arange(2 * number).ge(number).numpy()
    found: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(repeats):
        chosen = [choose(len(each), number, generator).to(each.device) for each in (fake, real)]
        rows = torch.cat([fake[chosen[0]], real[chosen[1]]]).cpu().numpy()
        split = StratifiedKFold(folds, shuffle=True, random_state=seed_from(generator))
        for name, classifier in made.items():
            seeded: Any = _with_seed(clone(classifier), seed_from(generator))
            right = [
                seeded.fit(rows[kept], labels[kept]).predict(rows[left]) == labels[left]
                for kept, left in split.split(rows, labels)
            ]
            found[name].append(float(np.concatenate(right).mean()))
    accuracies = {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}
    return TwoSampleAccuracy(accuracies, number)


def _usual(classifiers: Mapping[str, Any] | str) -> dict[str, Any]:
    """The classifiers by name.

    :raises ImportError: scikit-learn is missing.
    :raises TypeError: no classifiers.
    """
    try:
        from sklearn.base import is_classifier
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError(
            "The classifier two-sample test needs scikit-learn, which is not installed. Install it "
            "with pip install 'pyro_ebm[sklearn]'."
        ) from error
    if isinstance(classifiers, str) and classifiers == "auto":
        return {
            "boosted trees": HistGradientBoostingClassifier(max_leaf_nodes=_LEAVES),
            "5 neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier(5)),
        }
    if not isinstance(classifiers, Mapping) or not all(
        not isinstance(each, type) and is_classifier(each) for each in classifiers.values()
    ):
        raise TypeError(
            'expected classifiers to be "auto" or scikit-learn classifiers by name, such as '
            f'{{"forest": RandomForestClassifier()}}, got {classifiers!r}.'
        )
    if not classifiers:
        raise ValueError("expected a classifier at least, got none.")
    return dict(classifiers)


def _with_seed(classifier: Any, seed: int) -> Any:
    """The classifier with its random states, and those of its parts, where it was given none."""
    states = {
        name: seed
        for name, value in classifier.get_params().items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    return classifier.set_params(**states)
