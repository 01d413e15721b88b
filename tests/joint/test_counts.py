"""Counting against Python's own dictionaries, packed and in several words."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcut.joint.counts import count_labelings


def _sample(seed: int, samples: int, spatial: tuple[int, ...], labels: int, distinct: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    pool = torch.randint(labels, (distinct, *spatial), generator=g)
    return pool[torch.randint(distinct, (samples,), generator=g)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    samples=st.integers(1, 60),
    spatial=st.sampled_from([(), (1,), (5,), (3, 8), (7, 9), (8, 8), (5, 13), (2, 3, 40)]),
    labels=st.sampled_from([1, 2, 3, 7, 300]),
    distinct=st.integers(1, 40),
)
def test_is_what_a_dictionary_counts(
    seed: int, samples: int, spatial: tuple[int, ...], labels: int, distinct: int
) -> None:
    sample = _sample(seed, samples, spatial, labels, distinct)
    found = count_labelings(sample)
    rows = [tuple(row) for row in sample.reshape(samples, -1).tolist()]
    expected = sorted(Counter(rows).items())  # tuples sort lexicographically
    assert [tuple(row) for row in found.labels.reshape(len(expected), -1).tolist()] == [
        k for k, _ in expected
    ]
    assert found.counts.tolist() == [c for _, c in expected]
    assert torch.equal(found.labels[found.inverse], sample)


@pytest.mark.parametrize("differing", [0, 62, 63, 64, 125, 126, 199])
def test_one_pixel_tells_long_labelings_apart(differing: int) -> None:
    sample = torch.ones(3, 200, dtype=torch.uint8)
    sample[1, differing] = 0
    found = count_labelings(sample)
    assert found.labels.dtype == torch.uint8
    assert found.counts.tolist() == [1, 2]
    assert found.inverse.tolist() == [1, 0, 1]


def test_the_largest_word_holds_its_largest_code() -> None:
    # 63 binary pixels fill a word: the largest code is 2^63 - 1.
    sample = torch.ones(4, 63, dtype=torch.int64)
    sample[2, -1] = 0
    sample[3, 0] = 0
    assert count_labelings(sample).inverse.tolist() == [2, 2, 1, 0]
    # Labels so large that two pixels do not fit.
    huge = torch.tensor([[2**62, 1], [2**62, 0], [0, 2**62]])
    assert count_labelings(huge).inverse.tolist() == [2, 1, 0]


def test_order_and_counts_do_not_depend_on_the_order_of_the_sample() -> None:
    sample = _sample(3, 500, (9, 11), 3, 50)
    mixed = sample[torch.randperm(500, generator=torch.Generator().manual_seed(4))]
    a, b = count_labelings(sample), count_labelings(mixed)
    assert torch.equal(a.labels, b.labels)
    assert torch.equal(a.counts, b.counts)
    transposed = sample.mT.contiguous().mT  # not contiguous
    assert torch.equal(count_labelings(transposed).inverse, a.inverse)


def test_a_million_labelings() -> None:
    g = torch.Generator().manual_seed(0)
    codes = (torch.rand(10**6, generator=g) ** 4 * 2**24).long()
    sample = (codes[:, None] >> torch.arange(23, -1, -1)) & 1
    values, counts = codes.unique(return_counts=True)
    found = count_labelings(sample.to(torch.uint8).reshape(-1, 3, 8))
    assert torch.equal(found.counts, counts)
    powers = 2 ** torch.arange(23, -1, -1)
    assert torch.equal((found.labels.flatten(1) * powers).sum(dim=1), values)


def test_empty_samples_and_bool() -> None:
    found = count_labelings(torch.zeros(0, 3, 2, dtype=torch.int64))
    assert found.labels.shape == (0, 3, 2)
    assert found.counts.shape == found.inverse.shape == (0,)
    assert count_labelings(torch.tensor([[True], [False], [True]])).counts.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.zeros(2, 3), TypeError, "labels: expected an integer tensor, got torch.float32"),
        ([[0, 1]], TypeError, "labels: expected an integer tensor, got list"),
        (torch.tensor(3), ValueError, r"labels: expected shape \(M, \*spatial\), got \(\)"),
        (torch.tensor([[0, -1]]), ValueError, "labels: expected integers >= 0, got -1"),
    ],
)
def test_refusals(labels: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        count_labelings(labels)
