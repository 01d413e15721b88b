"""Random numbers by counting: known outputs, the same bits everywhere, uniform, independent of neighbours."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from flowcut.kernels.random import BONDS, LABELS, absorb_reference, counter_uniforms, uniforms_reference

_LARGEST = 2**63 - 1
_COUNT = 1 << 16


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _chi_square(cells: Tensor, count: int, tests: int = 1) -> tuple[float, float]:
    """Of equally likely cells: the statistic, and what one of so many exceeds once in a thousand times."""
    expected = len(cells) / count
    counts = torch.bincount(cells, minlength=count).double()
    return float(((counts - expected) ** 2 / expected).sum()), float(chi2.ppf(1 - 1e-3 / tests, count - 1))


def test_the_published_sequence_of_splitmix64() -> None:
    # The first outputs for the seed 0, as in the reference implementation by Vigna (public domain).
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    found = absorb_reference(torch.zeros((), dtype=torch.int64), torch.arange(4))
    assert found.tolist() == [_signed(word) for word in known]


@pytest.mark.parametrize("seed", [0, 1, 12345678901234567, _LARGEST])
@pytest.mark.parametrize("sweep", [0, 7, 2**40, _LARGEST])
def test_numba_has_the_bits_of_the_reference(seed: int, sweep: int) -> None:
    numbers = torch.tensor([0, 1, 2, 3, 100, 2**31, 2**32 + 1, 2**53, _LARGEST - 1, _LARGEST])
    for stream in range(4):
        ours = counter_uniforms(numbers, seed, stream, 5, sweep)
        assert torch.equal(ours, uniforms_reference(numbers, seed, stream, 5, sweep))
        assert ours.shape == (5, 10)
        assert ((ours >= 0) & (ours < 1)).all()
        assert torch.equal(ours * 2**53, (ours * 2**53).round())
        assert ours.unique().numel() == 50


def test_operation() -> None:
    torch.library.opcheck(counter_uniforms, (torch.arange(6), 3, LABELS, 2, 9))
    torch.library.opcheck(counter_uniforms, (torch.arange(0), 3, LABELS, 0, 9))
    strided = torch.arange(12)[::2]
    assert torch.equal(counter_uniforms(strided, 3, 1, 2, 9), uniforms_reference(strided, 3, 1, 2, 9))


def _directions() -> dict[str, Tensor]:
    """Numbers along every direction in which a counter may count."""
    one, many = torch.zeros(1, dtype=torch.int64), range(1 << 12)
    return {
        "numbers": counter_uniforms(torch.arange(_COUNT), 5, LABELS, 1, 3)[0],
        "numbers far apart": counter_uniforms(torch.arange(_COUNT) << 32, 5, LABELS, 1, 3)[0],
        "chains": counter_uniforms(one, 5, LABELS, _COUNT, 3)[:, 0],
        "sweeps": torch.cat([counter_uniforms(torch.arange(4), 5, LABELS, 1, s)[0, 2:3] for s in many]),
        "seeds": torch.cat([counter_uniforms(one, s, LABELS, 1, 3)[0] for s in many]),
    }


@pytest.mark.parametrize("name", ["numbers", "numbers far apart", "chains", "sweeps", "seeds"])
def test_uniform_and_independent_of_the_next(name: str) -> None:
    u = _directions()[name]
    bins = 64
    statistic, quantile = _chi_square((u * bins).long(), bins, 4)
    assert statistic < quantile
    for lag in (1, 2, 5):
        grid = (u[:-lag] * 16).long() * 16 + (u[lag:] * 16).long()
        statistic, quantile = _chi_square(grid, 256, 4)
        assert statistic < quantile


def test_independent_between_chains_sweeps_streams_and_seeds() -> None:
    numbers = torch.arange(_COUNT)
    family = [counter_uniforms(numbers, 5, LABELS, 2, 3), counter_uniforms(numbers, 5, LABELS, 2, 4)]
    family += [counter_uniforms(numbers, 5, BONDS, 2, 3), counter_uniforms(numbers, 6, LABELS, 2, 3)]
    pairs = list(itertools.combinations(torch.cat(family), 2))
    for a, b in pairs:
        statistic, quantile = _chi_square((a * 16).long() * 16 + (b * 16).long(), 256, len(pairs))
        assert statistic < quantile
        assert not torch.isin(a, b).any()  # 2^16 numbers of 2^53 meet with probability 5e-7


def test_every_bit_is_fair_and_flips_when_one_bit_of_a_number_does() -> None:
    numbers = torch.arange(1 << 13)
    words = (counter_uniforms(numbers, 5, LABELS, 1, 3)[0] * 2**53).long()
    error = 0.5 / len(numbers) ** 0.5  # the standard error of a share of one half
    bits = (words[:, None] >> torch.arange(53)) & 1
    assert ((bits.double().mean(dim=0) - 0.5).abs() < 4 * error).all()
    for flipped in (0, 1, 13, 31, 32, 62):
        others = (counter_uniforms(numbers ^ (1 << flipped), 5, LABELS, 1, 3)[0] * 2**53).long()
        changed = ((words ^ others)[:, None] >> torch.arange(53)) & 1
        # Of 318 shares one is beyond 4.5 standard errors with probability 0.002. The first flips pair every
        # number twice, which makes the error larger by sqrt(2).
        assert ((changed.double().mean(dim=0) - 0.5).abs() < 4.5 * 2**0.5 * error).all()


def test_a_wrong_generator_would_be_found() -> None:
    u = (torch.arange(_COUNT) * 0.618034) % 1  # uniform, not independent
    statistic, quantile = _chi_square((u[:-1] * 16).long() * 16 + (u[1:] * 16).long(), 256)
    assert statistic > 10 * quantile
