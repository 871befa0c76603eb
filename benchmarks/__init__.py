"""Side by side with other libraries, on one machine, in one run: ``make bench``.

Every measurement is a process of its own, one at a time; the tables tell medians of the repeats.
Speed is effective draws per second of the worst parameter, and it counts only where every mean and
sd is right; over many seeds the errors must be those that the effective sample sizes promise.
"""
