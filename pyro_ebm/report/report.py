"""The report on a run: one page that stands by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyro_ebm.annealing import LogZ
from pyro_ebm.annealing.log_z import Backward
from pyro_ebm.mcmc.api.diagnose_data import diagnose_data
from pyro_ebm.mcmc.api.folder import ESTIMATE_GROUP
from pyro_ebm.plots import summary_rows

from .graph import model_graph
from .html import Section, bullets, escape, page, paragraph, table, terms
from .pictures import pictures_of_draws, pictures_of_estimate
from .read import BadInput, Run, not_finite, read_run

# Rows of the summary; who has more quantities wants a program to read them.
_MOST_ROWS = 300
# What the sections say already, or what no person reads.
_TOLD = (
    "model_graph",
    "distribution",
    "why",
    "diagnosis",
    "log_z",
    "std_error",
    "reliable",
    "considered",
)
# netCDF has no booleans.
_FLAGS = ("complete", "vectorized", "stopped", "reverse_exact", "adaptive", "unbiased")
_WELL = "All is well"
_CUT = (
    "The graph of this model is not shown: it is too long to be kept beside the draws, where some "
    "230 sites fit."
)
_PROGRAM = (
    "inference_library",
    "inference_library_version",
    "pyro_version",
    "torch_version",
    "arviz_version",
    "creation_library",
    "creation_library_version",
    "creation_library_language",
    "created_at",
)


def write_report(path: Path, out: Path | None) -> tuple[str, Path]:
    """Write the report on the run at ``path``; the verdict in a sentence, and where the page is.

    :param out: where it goes; beside the run unless given.
    :raises BadInput: there is no run, it is damaged, or the page would take its place.
    :raises ImportError: what is needed to read it is missing.
    :raises OSError: the page cannot be written.
    """
    run = read_run(path)
    out = _beside(path) if out is None else out
    if out.exists() and out.samefile(path):
        raise BadInput(f"{out} is the run itself: give the page another name with -o.")
    if not run.is_estimate and "posterior" not in run.groups:
        held = ", ".join(run.groups)
        raise BadInput(f"{path} holds no draws of a posterior and no estimate, but {held}.")
    sections, verdict = _of_estimate(run) if run.is_estimate else _of_draws(run)
    graph = run.attrs.get("model_graph")
    if isinstance(graph, Mapping) and graph:
        sections.append(("model", "The model", model_graph(graph)))
    elif isinstance(graph, str):
        sections.append(("model", "The model", paragraph(_CUT)))
    sections.append(("made", "How it was made", _made(run.attrs)))
    what = run.attrs.get("method") or run.attrs.get("sampler") or "Run"
    # Merged runs may have several.
    what = " and ".join(map(str, what)) if isinstance(what, list) else what
    kind = "Estimate of log Z by" if run.is_estimate else "Draws by"
    title = f"{kind} {what}: {path.name}"
    version = run.attrs.get("inference_library_version", "")
    footer = f"Written by python -m pyro_ebm report. The run was made by pyro_ebm {version}".strip()
    out.write_text(page(title, _about(run), sections, footer + "."), encoding="utf-8")
    return verdict, out


def _beside(path: Path) -> Path:
    """Where the page on the run at this path goes: of a link beside the link."""
    named = path.name not in ("", "..")
    return (path.absolute() if named else path.resolve()).with_suffix(".html")


def _of_draws(run: Run) -> tuple[list[Section], str]:
    said = diagnose_data(run.data)
    lines = said.splitlines()
    problems = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    others = [line for line in lines if not line.startswith("- ")]
    head = others.pop(0)
    bad = not_finite(run)
    if bad is not None:
        problems.append(f"{bad}: there no mean is known. Look at what computes it.")
        if head.startswith(_WELL):
            others.insert(0, head.replace(_WELL, "All else is well", 1))
        head = f"This run has {len(problems)} problem{'s' if len(problems) > 1 else ''}."
    good = not problems
    bold = _WELL if head.startswith(_WELL) else head
    contents = (
        f'<div class="verdict{" good" if good else ""}">'
        f"<p><strong>{escape(bold)}</strong>{escape(head.removeprefix(bold))}</p>"
        f"{bullets(problems)}{''.join(paragraph(line) for line in others)}</div>"
        + "".join(paragraph(line, kind="soft") for line in run.told)
    )
    sections = [
        ("verdict", "Verdict", contents),
        ("summary", "Summary", _summary(run)),
        ("pictures", "Pictures", pictures_of_draws(run)),
    ]
    return [section for section in sections if section[2]], head


def _of_estimate(run: Run) -> tuple[list[Section], str]:
    estimate = _estimate(run)
    good = estimate.reliable
    word = "Every check was passed." if good else "Not to be relied on."
    why = estimate.why if estimate.why.endswith(".") else estimate.why + "."
    verdict = (
        f'<div class="verdict{" good" if good else ""}"><p><strong>{word}</strong> '
        f"{escape(why)}</p></div>"
    )
    number = f'<p class="number">{escape(_value(estimate))}</p>'
    low, high = estimate.interval(0.95)
    facts = [("Method", estimate.method)]
    if math.isfinite(estimate.std_error):
        facts.append(("95 % interval", f"{low:.3f} to {high:.3f} nats"))
    if estimate.num_particles:
        shown = f"{estimate.ess:.0f} of {estimate.num_particles}"
        facts.append(("Effective sample size", shown))
    if math.isfinite(estimate.khat):
        facts.append(("Pareto k-hat", f"{estimate.khat:.2f} (up to 0.7 is good)"))
    if estimate.backward is not None:
        back = estimate.backward
        exact = "an upper bound" if back.exact else "no bound, as the draws are not exact"
        shown = f"{back.upper:.3f} ± {back.upper_error:.3f} nats, {exact}"
        facts.append(("Backwards alone", shown))
        facts.append(("Both directions", f"{back.bennett:.3f} ± {back.bennett_error:.3f} nats"))
    sections = [
        ("verdict", "Verdict", verdict),
        ("log-z", "log Z", number + terms(facts)),
        ("pictures", "Pictures", pictures_of_estimate(estimate)),
        ("summary", "Draws by their weights", _summary(run, weighted=True)),
    ]
    return [section for section in sections if section[2]], f"log Z = {estimate}. {word} {why}"


def _value(estimate: LogZ) -> str:
    if not math.isfinite(estimate.log_z):
        return f"log Z = {estimate.log_z}"
    return f"log Z = {repr(estimate).partition(' [')[0]} nats"


def _estimate(run: Run) -> LogZ:
    """The estimate that the data tell of."""
    attrs = run.attrs
    dataset = run.groups.get(ESTIMATE_GROUP)
    arrays: dict[str, np.ndarray] = {}
    if dataset is not None:
        arrays = {str(name): np.asarray(values) for name, values in dataset.data_vars.items()}
    weights, works = arrays.get("log_weight"), arrays.get("work_backward")
    backward = None
    if works is not None and "upper" in attrs:
        numbers = ("upper", "upper_error", "bennett", "bennett_error")
        upper, upper_error, both, both_error = (float(attrs[name]) for name in numbers)
        exact = bool(attrs["reverse_exact"])
        downwards = torch.from_numpy(works)
        backward = Backward(downwards, upper, upper_error, both, both_error, exact)
    forward = arrays.get("work_forward")
    beside = ("log_weight", "work_backward", "work_forward")
    return LogZ(
        float(attrs.get("log_z", math.nan)),
        float(attrs.get("std_error", math.inf)),
        str(attrs.get("method", "an unnamed method")),
        bool(attrs.get("reliable", False)),
        str(attrs.get("why", "")),
        ess=float(attrs.get("ess", math.nan)),
        khat=float(attrs.get("khat", math.nan)),
        num_particles=int(attrs.get("num_particles", 0)),
        log_weights=None if weights is None else torch.from_numpy(weights),
        backward=backward,
        path={name: values.tolist() for name, values in arrays.items() if name not in beside},
        details={} if forward is None else {"forward_works": torch.from_numpy(forward)},
    )


def _summary(run: Run, *, weighted: bool = False) -> str:
    """ArviZ's table; of weighted draws what does not ask for chains."""
    if "posterior" not in run.groups:
        return ""
    columns, rows, number = summary_rows(run.groups["posterior"], _MOST_ROWS, chains=not weighted)
    found = table("Summary of the posterior", ("quantity", *columns), rows)
    if number > len(rows):
        found += paragraph(f"These are the first {len(rows)} of {number} quantities.", kind="soft")
    return found


def _about(run: Run) -> str:
    sizes = run.groups["posterior"].sizes if "posterior" in run.groups else {}
    parts = []
    if sizes and not run.is_estimate:
        parts.append(f"{sizes['chain']} chains of {sizes['draw']} draws")
    if "seed" in run.attrs:
        parts.append(f"seed {run.attrs['seed']}")
    if "created_at" in run.attrs:
        parts.append(f"written {str(run.attrs['created_at'])[:10]}")
    return ", ".join(parts)


def _made(attrs: Mapping[str, Any]) -> str:
    def shown(name: str, value: Any) -> str:
        if name in _FLAGS:
            return "yes" if value else "no"
        if name == "sampling_time":
            return f"{value:.3g} s"
        if isinstance(value, float):
            return f"{value:.6g}"
        if isinstance(value, list):
            return ", ".join(map(str, value[:20])) + (" ..." if len(value) > 20 else "")
        if isinstance(value, Mapping):
            return "; ".join(f"{name}: {part}" for name, part in value.items())
        return str(value)

    ordered = [name for name in attrs if name not in (*_TOLD, *_PROGRAM)]
    ordered += [name for name in _PROGRAM if name in attrs]
    return terms((name.replace("_", " "), shown(name, attrs[name])) for name in ordered)
