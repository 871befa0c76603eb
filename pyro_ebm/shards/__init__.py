"""Runs beyond one process: parts of a fixed size with random streams of their own, on any executor.

How many workers there are, and which of them makes what, changes nothing: a shard is a function of
the run and of its own number.
"""

from .executors import SerialExecutor as SerialExecutor
from .executors import WorkerDied as WorkerDied
from .executors import WorkerProcesses as WorkerProcesses
from .run_all import Ended as Ended
from .run_all import check_executor as check_executor
from .run_all import run_all as run_all
from .surroundings import Surroundings as Surroundings
from .surroundings import seed_of as seed_of
from .surroundings import within as within
