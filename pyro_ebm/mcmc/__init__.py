"""Markov chain Monte Carlo for many chains at once: kernels, adaptation, and the one loop."""
