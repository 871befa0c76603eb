"""Compiled code is made once, and what is damaged or another's is not loaded."""

import pytest

from pyro_ebm.cache import cache_folder, kept
from pyro_ebm.mcmc.native import library as module
from pyro_ebm.mcmc.native.library import NoLibrary, library


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRO_EBM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def forgetful(monkeypatch):
    """As in a new process, nothing is loaded yet."""
    monkeypatch.setattr(module, "_library", module._library.__wrapped__)


def made_of(text):
    made = []

    def make(path):
        made.append(path)
        path.write_text(text)

    return make, made


def test_a_file_is_made_once_for_the_parts_that_it_is_made_of():
    make, made = made_of("code")
    first = kept("a", ".x", ["part"], make)
    assert kept("a", ".x", ["part"], make) == first
    assert first.read_text() == "code"
    other = kept("a", ".x", ["another part"], make)
    assert other != first
    assert len(made) == 2


@pytest.mark.parametrize("damage", ["", "cod", "c0de"])
def test_a_damaged_file_is_made_anew(damage):
    make, made = made_of("code")
    kept("a", ".x", ["part"], make).write_text(damage)
    assert kept("a", ".x", ["part"], make).read_text() == "code"
    assert len(made) == 2


def test_a_folder_that_all_may_write_to_is_refused(folder):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="writable by all"):
        kept("a", ".x", ["part"], made_of("code")[0])


def test_the_users_home_is_known_by_its_sign(monkeypatch):
    monkeypatch.setenv("PYRO_EBM_CACHE", "~/kept")
    assert "~" not in str(cache_folder())


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("nonsense", "'nonsense', which is no program"),
        ("false", "fails: it says nothing"),
        ("true", "makes nothing"),
    ],
)
def test_a_compiler_that_is_none_is_told(forgetful, monkeypatch, compiler, said):
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(NoLibrary, match=said):
        library("nuts_float")


def test_no_compiler_is_told(forgetful, monkeypatch):
    monkeypatch.setenv("CC", " ")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoLibrary, match="no C compiler is found"):
        library("nuts_float")
