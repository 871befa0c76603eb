"""One script a library, each run in a process of its own: ``python -m benchmarks.peers.X``."""
