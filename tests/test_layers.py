"""Imports only go down: the table is the house, and every file of pyro_ebm has a floor in it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pyro_ebm"

# The most specific prefix counts. `pyro_ebm/__init__.py` stands above all.
LAYERS = {
    "pyro_ebm": 8,
    "pyro_ebm.c_compiler": 1,
    "pyro_ebm.cache": 1,
    "pyro_ebm.numeric": 1,
    "pyro_ebm.recording": 1,
    "pyro_ebm.shapes": 1,
    "pyro_ebm.energies": 1,
    "pyro_ebm.diagnostics": 1,
    "pyro_ebm.figure": 1,
    "pyro_ebm.inference_data": 1,
    "pyro_ebm.target": 2,
    "pyro_ebm.normalizers": 2,
    "pyro_ebm.optimize": 2,
    "pyro_ebm.shards": 2,
    "pyro_ebm.mcmc": 3,
    "pyro_ebm.draws": 4,
    "pyro_ebm.draws_by_params": 4,
    "pyro_ebm.distribution": 4,
    "pyro_ebm.factor": 4,
    "pyro_ebm.mcmc.api": 5,
    "pyro_ebm.annealing": 5,
    "pyro_ebm.surfaces": 5,
    "pyro_ebm.calibration": 6,
    "pyro_ebm.learning": 6,
    "pyro_ebm.flows": 6,
    "pyro_ebm.minimization": 6,
    "pyro_ebm.rules": 6,
    "pyro_ebm.mixtures": 6,
    "pyro_ebm.thermodynamics": 6,
    "pyro_ebm.thermodynamics_plot": 7,
    "pyro_ebm.annealing_plots": 7,
    "pyro_ebm.calibration_plot": 7,
    "pyro_ebm.learning_curve_plot": 7,
    "pyro_ebm.learning_plots": 7,
    "pyro_ebm.rules_plot": 7,
    "pyro_ebm.mixtures_plot": 7,
    "pyro_ebm.samples_plot": 7,
    "pyro_ebm.plots": 7,
    "pyro_ebm.report": 7,
    "pyro_ebm.demo": 7,
    "pyro_ebm.__main__": 7,
}
PYRO_FREE = ("pyro_ebm.energies", "pyro_ebm.mcmc")
PYRO_ALLOWED = ("pyro_ebm.mcmc.api",)
ARVIZ_ALLOWED = ("pyro_ebm.diagnostics", "pyro_ebm.inference_data", "pyro_ebm.plots")


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def layer(module: str) -> int | None:
    """The layer of a module, None when the table does not name it."""
    name = module
    while name != "pyro_ebm":
        if name in LAYERS:
            return LAYERS[name]
        name = name.rpartition(".")[0]
    return LAYERS[name] if module == name else None


def package_sources() -> dict[str, str]:
    """Dotted module name -> source, a package under its own name with `.__init__` at the end."""
    return {
        ".".join(["pyro_ebm", *path.relative_to(PACKAGE).with_suffix("").parts]): path.read_text()
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imports(file: str, source: str, modules: set[str]) -> Iterator[str]:
    """Dotted names of the modules that `file` imports, wherever in it the import stands."""
    package = file.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                origin = ".".join([*anchor, *filter(None, [origin])])
            for alias in node.names:
                member = f"{origin}.{alias.name}"
                yield member if member in modules else origin


def violations(sources: dict[str, str]) -> list[str]:
    """One sentence for every import that goes up, and for every file without a floor."""
    modules = {file.removesuffix(".__init__") for file in sources}
    found = []
    for file, source in sources.items():
        module = file.removesuffix(".__init__")
        own = layer(module)
        if own is None:
            found.append(f"{module} has no layer; give it one in {Path(__file__).name}")
            continue
        for name in imports(file, source, modules):
            root = name.partition(".")[0]
            if root == "pyro_ebm":
                other = layer(name)
                if other is None or other > own:
                    found.append(f"{module} (layer {own}) imports {name} (layer {other})")
            elif root == "pyro" and within(module, PYRO_FREE) and not within(module, PYRO_ALLOWED):
                found.append(f"{module} knows no Pyro, but imports {name}")
            elif root.startswith("arviz") and not within(module, ARVIZ_ALLOWED):
                found.append(f"{module} imports {name}; ArviZ belongs in {ARVIZ_ALLOWED}")
    return found


def test_imports_only_go_down():
    assert violations(package_sources()) == []


def test_the_page_on_the_architecture_has_the_same_floors():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    floors = {
        int(number): {f"pyro_ebm.{name}" for name in re.findall(r"`([\w.]+)`", packages)}
        for number, packages in re.findall(r"^\| (\d) \| (.*?) \|", page, re.MULTILINE)
    }
    for number in range(1, 7):
        assert floors[number] == {name for name, floor in LAYERS.items() if floor == number}
    assert {LAYERS[name] for name in floors[7]} == {7}


@pytest.mark.parametrize(
    ("file", "source", "said"),
    [
        (
            "pyro_ebm.energies.base",
            "from pyro_ebm.target import Target",
            "target (layer 2)",
        ),
        ("pyro_ebm.energies.base", "from ..target import Target", "target (layer 2)"),
        ("pyro_ebm.energies.base", "from .. import target", "target (layer 2)"),
        ("pyro_ebm.energies.base", "from pyro_ebm import Target", "pyro_ebm (layer 8)"),
        ("pyro_ebm.energies.base", "import pyro_ebm.mcmc.api", "pyro_ebm.mcmc.api (layer 5)"),
        ("pyro_ebm.mcmc.run", "from pyro_ebm.mcmc import api", "pyro_ebm.mcmc.api (layer 5)"),
        ("pyro_ebm.mcmc.run", "from . import api", "pyro_ebm.mcmc.api (layer 5)"),
        ("pyro_ebm.mcmc.__init__", "from .api import MCMC", "pyro_ebm.mcmc.api (layer 5)"),
        ("pyro_ebm.mcmc.run", "def f():\n    import pyro", "knows no Pyro"),
        ("pyro_ebm.mcmc.nuts", "from pyro.distributions import Normal", "knows no Pyro"),
        ("pyro_ebm.mcmc.api", "import arviz as az", "ArviZ belongs"),
        ("pyro_ebm.distribution", "from arviz_stats import base", "ArviZ belongs"),
        ("pyro_ebm.unheard_of", "import torch", "has no layer"),
    ],
)
def test_a_planted_violation_is_caught(file, source, said):
    house = {"pyro_ebm.target.__init__": "", "pyro_ebm.mcmc.api": "", file: source}
    assert any(said in sentence for sentence in violations(house))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("pyro_ebm.target.__init__", "import pyro\nfrom pyro_ebm.energies import Energy"),
        ("pyro_ebm.target.freeze", "from . import layout\nfrom .layout import Layout"),
        ("pyro_ebm.mcmc.api", "import pyro\nfrom .run import run"),
        ("pyro_ebm.mcmc.run", "from ..target import Target"),
        ("pyro_ebm.__init__", "from .mcmc.api import MCMC as MCMC"),
        ("pyro_ebm.diagnostics", "import arviz_stats"),
    ],
)
def test_a_legal_import_passes(file, source):
    house = {"pyro_ebm.target.layout": "", "pyro_ebm.mcmc.api": "", file: source}
    assert violations(house) == []
