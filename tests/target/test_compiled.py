"""A compiled recording gives what the recording gives, once and for later processes, or says so."""

import os
import signal
import warnings

import pytest
import torch

from pyro_ebm.target import compiled as module
from pyro_ebm.target.vectorize import traced

WEIGHTS = torch.tensor([1.0, -2.0, 0.5])


def function(x, weights=WEIGHTS):
    return (x * weights[:, None]).exp().sum(0), x.square()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(folder, monkeypatch):
    monkeypatch.setenv("PYRO_EBM_CACHE", str(folder))


def example():
    return torch.linspace(-1.0, 1.0, 12).reshape(3, 4)


def test_it_is_compiled_once_and_reads_what_it_is_given_as_it_lies(monkeypatch, folder):
    run = traced(function, example(), compile_graph=True)
    assert len(list(folder.iterdir())) == 1
    other = torch.randn(4, 3).T
    for found, right in zip(run(other), function(other), strict=True):
        torch.testing.assert_close(found, right)
    # What another process finds on disk it does not compile.
    monkeypatch.setattr(module, "_compile", None)
    again = traced(function, example(), compile_graph=True)
    torch.testing.assert_close(again(other)[0], function(other)[0])


def test_a_change_of_data_in_place_is_seen():
    weights = WEIGHTS.clone()
    run = traced(lambda x: function(x, weights), example(), compile_graph=True)
    weights.mul_(3.0)
    torch.testing.assert_close(run(example())[0], function(example(), weights)[0])


def test_a_compiler_that_fails_is_told_and_the_recording_runs(monkeypatch):
    def fails(*_):
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr(module, "_compile", fails)
    with pytest.warns(UserWarning, match=r"could not be compiled \(no compiler here\)"):
        run = traced(lambda x: x.cos(), example(), compile_graph=True)
    torch.testing.assert_close(run(example()), example().cos())


def test_code_that_ends_the_process_that_loads_it_is_not_used(monkeypatch, folder):
    parent = os.getpid()

    def load(path):
        assert os.getpid() != parent
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)

    before = sorted(folder.iterdir())
    monkeypatch.setattr(module, "_compile", lambda graph, arguments, path: None)
    monkeypatch.setattr(module, "_loaded", load)
    with pytest.warns(UserWarning, match="a process that loads it ends with signal 11"):
        run = traced(lambda x: x.cosh(), example(), compile_graph=True)
    assert torch.equal(run(example()), example().cosh())
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("wrong", ["a value", "a dtype"])
def test_compiled_code_that_gives_other_results_is_not_used(monkeypatch, wrong):
    def other(graph, example):
        return lambda x: [x.sin() + 1e-2] if wrong == "a value" else [x.sin().double()]

    monkeypatch.setattr(module, "_compiled", other)
    with pytest.warns(UserWarning, match="gives 1 other results"):
        run = traced(lambda x: x.sin(), example(), compile_graph=True)
    assert torch.equal(run(example()), example().sin())


def test_nothing_is_left_of_a_compilation_that_was_cut_short(monkeypatch, folder):
    def cut(graph, arguments, path):
        with open(path, "w") as file:
            file.write("half")
        raise KeyboardInterrupt

    before = sorted(folder.iterdir())
    monkeypatch.setattr(module, "_compile", cut)
    with pytest.raises(KeyboardInterrupt), warnings.catch_warnings():
        traced(lambda x: x.tan(), example(), compile_graph=True)
    assert sorted(folder.iterdir()) == before
