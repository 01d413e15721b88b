"""Distributions over whole labelings: energies, exact laws, samplers, randomized assignment flows."""
