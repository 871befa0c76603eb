"""Normalisers side by side with other libraries: ``make bench-log-z``.

Every estimate is made for several seeds and held against a known log Z. A library and a target
share a process, one process at a time, so that what is compiled serves all seeds.
"""
