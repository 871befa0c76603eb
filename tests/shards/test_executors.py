"""Executors of this package: calls come back, and killed workers are replaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from pyro_ebm.shards import (
    SerialExecutor,
    WorkerDied,
    WorkerProcesses,
    check_executor,
    run_all,
    seed_of,
)
from pyro_ebm.shards.packing import called


@pytest.fixture(scope="module")
def workers() -> Iterator[WorkerProcesses]:
    with WorkerProcesses(1) as executor:
        yield executor


def dies_once(flag: Path) -> str:
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def gathered(executor: Executor, function, jobs) -> tuple:
    found = {}
    ended = run_all(
        executor, function, jobs, found.__setitem__, total=len(jobs), disable_progbar=True
    )
    return found, ended


def test_a_call_comes_back_from_another_process_with_one_thread(workers):
    factor = 3
    here = os.getpid()
    future = workers.submit(
        lambda x, plus: (factor * x + plus, os.getpid(), torch.get_num_threads()), 2, plus=1
    )
    value, there, threads = future.result()
    assert (value, threads) == (7, 1)
    assert there != here


def test_what_is_raised_in_a_worker_is_raised_here_with_its_traceback(workers):
    with pytest.raises(ZeroDivisionError) as caught:
        workers.submit(lambda: 1 // 0).result()
    assert "In the worker" in caught.value.__notes__[0]


def test_an_exception_that_cannot_be_sent_arrives_as_its_text(workers):
    class Own(Exception):
        def __init__(self, first, second):
            super().__init__(first)

    def fails():
        raise Own("a reason", 2)

    with pytest.raises(RuntimeError, match="a reason"):
        workers.submit(fails).result()


def test_a_killed_worker_is_replaced_and_its_call_made_again(workers, tmp_path):
    before = workers.pids
    assert workers.submit(dies_once, tmp_path / "flag").result() == "done"
    assert workers.pids != before


@pytest.mark.slow
def test_a_call_that_kills_every_worker_is_given_up(workers):
    with pytest.raises(WorkerDied, match="exit code 7 in the middle of its work, 3 times"):
        workers.submit(os._exit, 7).result()


def test_what_cannot_be_sent_is_refused_with_the_way_out(workers):
    generator = (i for i in range(3))
    with pytest.raises(TypeError, match=r"cannot be sent to it.*SerialExecutor"):
        workers.submit(list, generator)


def test_stopped_workers_leave_what_they_do(workers):
    began = time.monotonic()
    workers.submit(int).result()
    future = workers.submit(time.sleep, 60)
    while not future.running():
        time.sleep(0.01)
    workers.stop()
    with pytest.raises(WorkerDied, match="were stopped"):
        future.result()
    assert time.monotonic() - began < 30


class Unreadable:
    """What is made in a worker, and cannot be put together again here."""

    def __reduce__(self):
        return open, ("no such file",)


def test_a_result_that_cannot_be_read_is_an_error_of_that_call(workers):
    future = workers.submit(Unreadable)
    try:
        with pytest.raises(FileNotFoundError):
            future.result(timeout=20)
    except TimeoutError:
        workers.stop()
        raise
    assert workers.submit(len, "abc").result() == 3


def test_workers_end_without_being_waited_for():
    executor = WorkerProcesses(1)
    future = executor.submit(os.getpid)
    executor.shutdown(wait=False)
    pid = future.result()
    until = time.monotonic() + 30
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(pid)


def test_what_goes_on_after_ctrl_c_is_said():
    class Slow(Executor):
        def submit(self, fn, /, *args, **kwargs):
            if args and called(*args) == 1:
                raise KeyboardInterrupt
            future = Future()
            future.set_running_or_notify_cancel()
            return future

    _, ended = gathered(Slow(), int, {0: 0, 1: 1})
    assert ended.interrupted
    assert ended.goes_on


def test_the_first_results_stay_when_ctrl_c_comes():
    def job(number):
        if number == 2:
            raise KeyboardInterrupt
        return number

    found, ended = gathered(SerialExecutor(), job, {i: i for i in range(4)})
    assert found == {0: 0, 1: 1}
    assert ended.interrupted


def test_an_error_leaves_the_others_alone():
    found, ended = gathered(SerialExecutor(), lambda n: 1 // n, {i: i for i in range(3)})
    assert found == {1: 1, 2: 0}
    assert [*ended.errors] == [0]
    assert not ended.interrupted


@pytest.mark.parametrize("number", [0, -1, True])
def test_numbers_of_workers_that_are_none_are_refused(number):
    with pytest.raises(ValueError, match="num_workers must be a whole number of at least 1"):
        WorkerProcesses(number)


def test_what_only_looks_like_an_executor_is_refused():
    class Client:
        def submit(self): ...

    with pytest.raises(TypeError, match=r"client.get_executor\(\).*got Client"):
        check_executor(Client())


def test_seeds_of_shards_differ():
    seeds = {seed_of(run, index) for run in range(20) for index in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_shards_of_one_run_differ_in_the_bits_that_a_generator_takes():
    # Seeds that were drawn at random were alike in these bits for the last two.
    numbers = [*range(10_000), 151_060, 285_105]
    assert len({seed_of(3, index) % 2**32 for index in numbers}) == len(numbers)
    assert len({seed_of(3, again, i) % 2**32 for again in range(8) for i in range(2000)}) == 16_000
    first, second = torch.Generator(), torch.Generator()
    same = first.manual_seed(seed_of(3, 0)), second.manual_seed(seed_of(3, 0) + 2**32)
    assert torch.equal(*(torch.rand(3, generator=generator) for generator in same))


@pytest.mark.slow
def test_a_process_pool_that_loses_a_worker_is_told_what_would_not():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        _, ended = gathered(pool, os._exit, {0: 7, 1: 7})
    assert len(ended.errors) == 2
    assert "WorkerProcesses() begins another" in ended.errors[0].__notes__[0]


@pytest.mark.slow
def test_workers_end_with_the_process_that_began_them(tmp_path):
    file = tmp_path / "pid"
    program = (
        "import os, signal, pathlib\n"
        "from pyro_ebm import WorkerProcesses\n"
        "if __name__ == '__main__':\n"
        "    workers = WorkerProcesses(1)\n"
        "    workers.submit(os.getpid).result()\n"
        f"    pathlib.Path({str(file)!r}).write_text(str(workers.pids[0]))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, str(script)], check=False, env=environment)
    pid = int(file.read_text())
    until = time.monotonic() + 30
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent to be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
