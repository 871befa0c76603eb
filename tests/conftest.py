"""What every test starts from: checked shapes, its own seed, an empty Pyro, one thread."""

import sys
import zlib
from collections.abc import Iterator

import jaxtyping
import matplotlib
import pyro
import pytest
import torch

if "pyro_ebm" in sys.modules:
    raise ImportError(
        "pyro_ebm was imported before the tests could have its shapes checked; "
        "import it in no pytest plugin and in no file loaded before tests/conftest.py."
    )
jaxtyping.install_import_hook("pyro_ebm", "beartype.beartype")
matplotlib.use("Agg")
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: "test_tutorials.py" not in item.nodeid)


@pytest.fixture(autouse=True)
def fresh_state(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seed torch, NumPy and `random` by the test's name; leave Pyro and torch as found."""
    dtype = torch.get_default_dtype()
    pyro.clear_param_store()
    pyro.set_rng_seed(zlib.crc32(request.node.nodeid.encode()))
    with pyro.validation_enabled(True):
        yield
    pyro.clear_param_store()
    torch.set_default_dtype(dtype)
