"""One script a library; each is run in a process of its own, as ``python -m benchmarks.peers.X``."""
