"""Flows trained here beside zuko's own loop, as bases of AIS, and before NUTS:
``python -m benchmarks.flows``."""
