"""Tensors in, tensors out: the only home of Numba (CPU) and Triton (CUDA)."""
