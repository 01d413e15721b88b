r"""Random numbers by counting: a hash of (seed, stream, chain, sweep, number), uniform in [0, 1).

A sampler that draws by counter needs no state but the number of sweeps done. Its result depends neither on
the order in which pixels are visited nor on the number of threads nor on the backend, and a run that was
stopped goes on as if it had not been.

The hash is the output function of SplitMix64 (Steele, Lea, Flood 2014, with the constants of Stafford's
thirteenth variant), a bijection of 64 bits,

    mix(z):  z <- (z ^ (z >> 30)) a,  z <- (z ^ (z >> 27)) b,  z <- z ^ (z >> 31)   (mod 2^64),

absorbed word by word, key <- mix(key + (word + 1) gamma). For one key the numbers 0, 1, 2, ... give the
sequence of that generator; the upper 53 bits are the uniform.

``counter_uniforms`` is the operation; the kernels of samplers call the inner functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowcut.kernels.jit import inner, jit
from flowcut.kernels.operation import operation

_GAMMA, _A, _B = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

# What a number is for: streams never share one.
START, LABELS, BONDS, SITES = 0, 1, 2, 3

# Numba turns uint64 and a plain integer into a float, so every constant has its type.
_U_GAMMA, _U_A, _U_B, _U_ONE = np.uint64(_GAMMA), np.uint64(_A), np.uint64(_B), np.uint64(1)
_U_11, _U_27, _U_30, _U_31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
_UNIT = 2.0**-53


@inner
def absorb(key: Any, word: int) -> Any:
    """The key (uint64) after one more word (int64)."""
    z = key + (np.uint64(word) + _U_ONE) * _U_GAMMA
    z = (z ^ (z >> _U_30)) * _U_A
    z = (z ^ (z >> _U_27)) * _U_B
    return z ^ (z >> _U_31)


@inner
def sweep_key(seed: int, stream: int, chain: int, sweep: int) -> Any:
    """The key that all numbers of one sweep of one chain share."""
    return absorb(absorb(absorb(absorb(np.uint64(0), seed), stream), chain), sweep)


@inner
def uniform(key: Any, number: int) -> float:
    """In [0, 1), a multiple of 2^-53."""
    return np.int64(absorb(key, number) >> _U_11) * _UNIT


@jit
def _fill(numbers: Any, seed: int, stream: int, sweep: int, out: Any) -> None:
    for chain in range(out.shape[0]):
        key = sweep_key(seed, stream, chain, sweep)
        for i in range(numbers.shape[0]):
            out[chain, i] = uniform(key, numbers[i])


def absorb_reference(key: Tensor, word: Tensor | int) -> Tensor:
    """:func:`absorb` on int64 tensors, whose products wrap as those of unsigned integers do."""
    word = torch.as_tensor(word, device=key.device)
    z = key + (word + 1) * _signed(_GAMMA)
    z = (z ^ _shifted(z, 30)) * _signed(_A)
    z = (z ^ _shifted(z, 27)) * _signed(_B)
    return z ^ _shifted(z, 31)


def uniforms_reference(numbers: Tensor, seed: int, stream: int, chains: int, sweep: int) -> Tensor:
    """Plain-PyTorch ``counter_uniforms``."""
    key = absorb_reference(absorb_reference(numbers.new_zeros(()), seed), stream)
    key = absorb_reference(key, torch.arange(chains, device=numbers.device))
    key = absorb_reference(key, sweep)
    return _shifted(absorb_reference(key.unsqueeze(1), numbers), 11).to(torch.float64) * _UNIT


def uniforms_cpu(numbers: Tensor, seed: int, stream: int, chains: int, sweep: int) -> Tensor:
    """``counter_uniforms`` by Numba."""
    out = torch.empty((chains, len(numbers)), dtype=torch.float64)
    _fill(numbers.contiguous().numpy(), seed, stream, sweep, out.numpy())
    return out


def _fake(numbers: Tensor, seed: int, stream: int, chains: int, sweep: int) -> Tensor:
    return numbers.new_empty((chains, numbers.shape[0]), dtype=torch.float64)


def _signed(word: int) -> int:
    """The signed integer of the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shift to the right with zeros coming in from the left."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


counter_uniforms = operation("counter_uniforms", uniforms_reference, _fake)
counter_uniforms.register_kernel("cpu", uniforms_cpu)
