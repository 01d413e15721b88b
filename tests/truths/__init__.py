"""Truths by closed forms and dense linear algebra, written without the library's kernels."""
