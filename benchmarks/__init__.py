"""Measured claims: one file a claim in :mod:`benchmarks.claims`, peers beside flowcut in the same run.

Run ``python -m benchmarks`` for everything, ``python -m benchmarks --list`` for the names,
and ``python -m benchmarks.table`` for the Markdown tables of the saved results.
"""
