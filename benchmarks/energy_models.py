"""What `EnergyModel` learns, in figures that say how good it is, written to a table.

    python -m benchmarks.energy_models

Shapes of two dimensions and real tables: can classifiers tell generated rows from held-out ones
(0.5 where not), do generated rows lie nearer to those learned from (0.5 where not), is every mode
there. A digit left out: is its energy higher than that of the others, beside an isolation forest.
Half of the pixels of digits: filled in with what error, beside the mean and nearest neighbours. A
convolutional energy of digits, learned with chains: does it stay stable over seeds, and what do its
chains show.

A table of few rows says little by one split, so that tables are split into halves several times.
Figures of boosted trees and neighbours for two real halves are beside those of generated rows: no
model does better.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.distributions import Independent, Normal

import pyro_ebm as ebm

from .machine import attributes

RESULTS = Path(__file__).parent / "results"
_ROWS, _TIMES = 2000, 10
_HALVES = 5
# Steps for digits: a convolution is ten times as dear.
_IMAGE_STEPS = 200
_CONVOLUTION_STEPS, _SEEDS = 1000, 5


class Shape(NamedTuple):
    """Rows [n, 2], and what their modes are: centres [K, 2] with a radius."""

    draw: Callable[[int, np.random.RandomState], np.ndarray]
    centres: np.ndarray
    radius: float


def moons(n: int, random: np.random.RandomState) -> np.ndarray:
    """Two half circles."""
    angle, upper = random.rand(n) * math.pi, random.rand(n) < 0.5
    x = np.where(upper, np.cos(angle), 1.0 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack([x, y], 1) + 0.1 * random.randn(n, 2)


def checkerboard(n: int, random: np.random.RandomState) -> np.ndarray:
    """Eight of sixteen squares, evenly filled."""
    x = random.rand(n) * 4.0 - 2.0
    y = random.rand(n) - 2.0 * random.randint(0, 2, n) + np.floor(x) % 2
    return 2.0 * np.stack([x, y], 1)


def rings(n: int, random: np.random.RandomState) -> np.ndarray:
    """Four circles around one point."""
    radius, angle = random.randint(1, 5, n), random.rand(n) * 2.0 * math.pi
    around = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return around + 0.08 * random.randn(n, 2)


def _arcs() -> np.ndarray:
    angle = np.linspace(0.0, math.pi, 8)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.concatenate([upper, np.array([1.0, 0.5]) - upper])


def _squares() -> np.ndarray:
    return np.array(
        [
            (2.0 * column + 1.0, 2.0 * row + 1.0)
            for column in range(-2, 2)
            for row in range(-2, 2)
            if (column + row) % 2 == 0
        ]
    )


def _circles() -> np.ndarray:
    angle = np.arange(12) * math.pi / 6.0
    one = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.concatenate([radius * one for radius in (1, 2, 3, 4)])


SHAPES = {
    "moons": Shape(moons, _arcs(), 0.3),
    "checkerboard": Shape(checkerboard, _squares(), 1.0),
    "rings": Shape(rings, _circles(), 0.25),
}


def judged(name: str, train: np.ndarray, held_out: np.ndarray, seed: int) -> dict[str, Any]:
    """A model of training rows beside held-out ones."""
    began = time.perf_counter()
    model = ebm.EnergyModel(random_state=seed).fit(train)
    fitted = time.perf_counter()
    generated = model.sample(_TIMES * len(held_out))
    drawn = time.perf_counter()
    stream = torch.Generator().manual_seed(seed)
    accuracy = ebm.classifier_two_sample_test(generated, held_out, generator=stream)
    real = ebm.classifier_two_sample_test(train, held_out, repeats=5, generator=stream)
    share = ebm.nearest_neighbour_share(generated, train, held_out, generator=stream)
    found: dict[str, Any] = {
        "trees": accuracy.mean["boosted trees"],
        "neighbours": accuracy.mean["5 neighbours"],
        "real trees": real.mean["boosted trees"],
        "real neighbours": real.mean["5 neighbours"],
        "share": share.share,
        "share error": share.std_error,
        "nats": model.score(held_out),
        "log Z error": model.log_z_.std_error,
        "reliable": model.log_z_.reliable,
        "components": len(model.base_.log_weights),
        "steps": 0 if model.trained_ is None else int(model.trained_.history["step"][-1]),
        "fit seconds": fitted - began,
        "sample seconds": drawn - fitted,
    }
    if name in SHAPES:
        shape = SHAPES[name]
        # Of the size of the mean count of a mode, a tenth at least.
        least = max(1, len(generated) // (10 * len(shape.centres)))
        modes = ebm.mode_coverage(generated, shape.centres, radius=shape.radius, min_samples=least)
        found["modes"] = f"{len(shape.centres) - len(modes.missing)} of {len(shape.centres)}"
    print(name, seed, json.dumps(found), flush=True)
    return found


def shapes() -> dict[str, Any]:
    """Each shape once: rows are many."""
    found = {}
    for name, shape in SHAPES.items():
        random = np.random.RandomState(0)
        train, held_out = shape.draw(_ROWS, random), shape.draw(_ROWS, random)
        found[name] = judged(name, train, held_out, 0)
    return found


def tables() -> dict[str, Any]:
    """Real tables, split into halves several times; means over splits, and the seconds of one."""
    from sklearn.datasets import load_breast_cancer, load_wine

    found = {}
    for name, load in (("wine", load_wine), ("breast cancer", load_breast_cancer)):
        table: Any = load()
        rows, each = table.data, []
        for seed in range(_HALVES):
            order = np.random.RandomState(seed).permutation(len(rows))
            half = len(rows) // 2
            each.append(judged(name, rows[order[:half]], rows[order[half : 2 * half]], seed))
        figures = [key for key, value in each[0].items() if isinstance(value, float | int)]
        found[name] = {key: float(np.mean([one[key] for one in each])) for key in figures}
        found[name]["reliable"] = all(one["reliable"] for one in each)
        found[name]["splits"] = each
    return found


def anomalies() -> dict[str, Any]:
    """The area under the curve by which a digit left out is told from the others."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import IsolationForest
    from sklearn.metrics import roc_auc_score

    digits: Any = load_digits()
    found = {}
    for digit in range(10):
        random = np.random.RandomState(digit)
        others = random.permutation(np.flatnonzero(digits.target != digit))
        half = len(others) // 2
        strange = np.flatnonzero(digits.target == digit)
        asked = np.concatenate([others[half:], strange])
        truth = digits.target[asked] == digit
        model = ebm.EnergyModel(num_steps=_IMAGE_STEPS, random_state=digit).fit(
            digits.images[others[:half]]
        )
        forest = IsolationForest(random_state=digit).fit(digits.data[others[:half]])
        found[str(digit)] = {
            "energy": roc_auc_score(truth, model.anomaly_score(digits.images[asked])),
            "isolation forest": roc_auc_score(truth, -forest.score_samples(digits.data[asked])),
        }
        print("left out", digit, json.dumps(found[str(digit)]), flush=True)
    return found


def pixels() -> dict[str, Any]:
    """The error of half of the pixels of digits, missing at random and in the lower half."""
    from sklearn.datasets import load_digits
    from sklearn.impute import KNNImputer

    digits: Any = load_digits()
    random = np.random.RandomState(0)
    order = random.permutation(len(digits.images))
    train, test = digits.images[order[:900]], digits.images[order[900:]]
    model = ebm.EnergyModel(num_steps=_IMAGE_STEPS, random_state=0).fit(train)
    lower = np.zeros(test.shape, dtype=bool)
    lower[:, 4:] = True
    found = {}
    for name, gone in (("half at random", random.rand(*test.shape) < 0.5), ("lower half", lower)):
        holes = np.where(gone, np.nan, test)
        flat = holes.reshape(len(test), -1)
        neighbours = {
            k: KNNImputer(n_neighbors=k).fit(train.reshape(len(train), -1)).transform(flat)
            for k in (5, 15)
        }
        answers = {
            "energy": model.impute(holes),
            "mean": np.where(gone, train.mean(0), holes),
            **{
                f"{k} neighbours": np.asarray(each).reshape(test.shape)
                for k, each in neighbours.items()
            },
        }
        found[name] = {
            who: float(np.sqrt(np.square(answer - test)[gone].mean()))
            for who, answer in answers.items()
        }
        print("pixels", name, json.dumps(found[name]), flush=True)
    return found


def convolutions() -> dict[str, Any]:
    """A convolutional energy of digits learned by persistent chains, from several seeds; what the
    chains of the first show is drawn beside digits that were held out."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = torch.as_tensor(digits.images / 8.0 - 1.0, dtype=torch.float32)
    # Grey levels are whole numbers, which have no density.
    images = images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = images[order[:1500]], images[order[1500:]]
    langevin = ebm.Langevin(adjusted=False, step_size=0.15)
    objective = ebm.PersistentContrastiveDivergence(
        steps=10, num_chains=128, buffer_size=1024, restart=0.02, sampler=langevin
    )
    found = {}
    for seed in range(_SEEDS):
        torch.manual_seed(seed)
        wide = Normal(train.mean(0), train.std(0).clamp(min=0.15))
        energy = ebm.Tilted(_net(32), Independent(wide, 2))
        began = time.perf_counter()
        trained = ebm.fit(
            energy,
            train,
            objective,
            num_steps=_CONVOLUTION_STEPS,
            batch_size=128,
            held_out=test,
            optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.0, 0.999)),
            scheduler=lambda made: torch.optim.lr_scheduler.CosineAnnealingLR(
                made, _CONVOLUTION_STEPS
            ),
            gradient_clip=1.0,
            ema=0.99,
            disable_progbar=True,
        )
        fitted = time.perf_counter() - began
        assert trained.negatives is not None
        told = ebm.classifier_two_sample_test(
            trained.negatives, test, repeats=5, generator=torch.Generator().manual_seed(seed)
        )
        losses = trained.history["held_out"]
        found[str(seed)] = {
            "diverged": trained.diverged,
            "first loss": float(losses[0]),
            "last loss": float(losses[-1]),
            "worst gap": float(np.abs(trained.history["gap"]).max()),
            "neighbours": told.mean["5 neighbours"],
            "seconds": fitted,
        }
        print("convolutions", seed, json.dumps(found[str(seed)]), flush=True)
        if seed == 0:
            figure = ebm.plot_samples(test[:64], trained.negatives[:64])
            figure.savefig(RESULTS / "energy_models_digits.png", dpi=80)
    return found


def _net(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),  # [n, 8, 8] to [n, 1, 8, 8]
        nn.Conv2d(1, width, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1, stride=2),
        nn.SiLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(8 * width, 64),
        nn.SiLU(),
        nn.Linear(64, 1),
    )


PARTS = {
    "shapes": shapes,
    "tables": tables,
    "anomalies": anomalies,
    "pixels": pixels,
    "convolutions": convolutions,
}


def written(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = ["# Energy models", "", "Written by `python -m benchmarks.energy_models`.", ""]
    learned = {**results.get("shapes", {}), **results.get("tables", {})}
    if learned:
        lines += [
            "Generated rows ten times as many as held-out ones; accuracy of classifiers, 5-fold, "
            "equal numbers, mean over 20 draws and splits, and in brackets that of two real "
            f"halves. Tables: means over {_HALVES} halvings.",
            "",
            "| | boosted trees | 5 neighbours | nearer to training | modes | nats a row | steps "
            "| fit s | sample s |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for name, one in learned.items():
            nats = f"{one['nats']:.3f}" + ("" if one["reliable"] else " (log Z not reliable)")
            lines.append(
                f"| {name} | {one['trees']:.3f} ({one['real trees']:.3f}) | "
                f"{one['neighbours']:.3f} ({one['real neighbours']:.3f}) | "
                f"{100 * one['share']:.1f} % ± {100 * one['share error']:.1f} | "
                f"{one.get('modes', '')} | {nats} | {one['steps']:.0f} | "
                f"{one['fit seconds']:.0f} | {one['sample seconds']:.0f} |"
            )
        lines.append("")
    if "anomalies" in results:
        lines += [
            "One digit of 8x8 left out of training: AUROC by which it is told from the others.",
            "",
            "| digit | energy | isolation forest |",
            "|---|---|---|",
        ]
        for digit, one in results["anomalies"].items():
            lines.append(f"| {digit} | {one['energy']:.3f} | {one['isolation forest']:.3f} |")
        means = [
            np.mean([one[who] for one in results["anomalies"].values()])
            for who in ("energy", "isolation forest")
        ]
        lines += [f"| mean | {means[0]:.3f} | {means[1]:.3f} |", ""]
    if "pixels" in results:
        kinds = list(next(iter(results["pixels"].values())))
        lines += [
            "Missing pixels of 8x8 digits, grey levels 0 to 16: root mean square error.",
            "",
            f"| | {' | '.join(kinds)} |",
            f"|---{'|---' * len(kinds)}|",
        ]
        for name, one in results["pixels"].items():
            lines.append(f"| {name} | {' | '.join(f'{one[kind]:.2f}' for kind in kinds)} |")
        lines.append("")
    if "convolutions" in results:
        lines += [
            "A convolutional energy of digits by persistent contrastive divergence with unadjusted "
            "Langevin chains, from several seeds: the loss of held-out digits (denoising), the "
            "largest gap of energies between chains and data, and the accuracy by which five "
            "neighbours tell chains from held-out digits. [What the chains "
            "show](energy_models_digits.png).",
            "",
            "| seed | diverged | loss, first look | last | largest gap | 5 neighbours | seconds |",
            "|---|---|---|---|---|---|---|",
        ]
        for seed, one in results["convolutions"].items():
            lines.append(
                f"| {seed} | {'yes' if one['diverged'] else 'no'} | {one['first loss']:.2f} | "
                f"{one['last loss']:.2f} | {one['worst gap']:.1f} | {one['neighbours']:.3f} | "
                f"{one['seconds']:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the parts that are asked for, and write all that is known."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "energy_models.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    began = time.perf_counter()
    for part in options.only:
        results[part] = PARTS[part]()
        results["machine"] = attributes(("torch", "scikit-learn"), began)
        path.write_text(json.dumps(results, indent=1, default=str) + "\n")
        path.with_suffix(".md").write_text(written(results))
    print(written(results))


if __name__ == "__main__":
    main()
