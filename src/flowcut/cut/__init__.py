"""Coherent masks from scores and edges: SoftCut and the random walker."""
