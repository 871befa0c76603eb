"""Side by side with other libraries, on one machine, in one run: ``make bench``.

Every measurement is a process of its own, one at a time; the table tells medians of the repeats.
Speed is effective draws per second of the worst parameter, and it counts only where the error of
the means, over many seeds, is the one that the effective sample size promises.
"""
