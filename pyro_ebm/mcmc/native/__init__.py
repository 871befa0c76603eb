"""Bookkeeping of kernels in C, compiled once for a machine: one pass over memory a step.

The kernels in torch are the reference and run everywhere; these are the same samplers, faster.
"""
