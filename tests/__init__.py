"""The laws pyro_ebm is held to, and the models that tests and benchmarks share."""
