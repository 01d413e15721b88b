"""What exact laws refuse, and the one line they say: what was expected, what they got, what is possible."""

from __future__ import annotations

import math

import pytest
import torch

from flowcut.core.neighborhood import Graph
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.exact import exact_law


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^energy: expected a PottsEnergy, got Tensor$"):
        exact_law(torch.zeros(1, 2, 3))  # type: ignore[arg-type]
    batch = PottsEnergy(torch.zeros(2, 2, 3), torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=r"^energy: expected one energy, got 2; take energy\[i\]$"):
        exact_law(batch)
    assert exact_law(batch[1]).log_z == pytest.approx(3 * math.log(2))
    law = exact_law(batch[0])
    with pytest.raises(ValueError, match=r"method: expected .*, got 'quick'"):
        exact_law(batch[0], "quick")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"count: expected a number >= 0, got -1"):
        law.sample(-1, seed=0)
    with pytest.raises(ValueError, match=r"labels: expected at least one labeling"):
        law.kl_from_samples(torch.zeros(0, 3, dtype=torch.int64), 0.0)
    with pytest.raises(ValueError, match=r"labels: expected shape"):
        law.log_prob(torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"log_prob: expected probabilities that sum to 1, got 8$"):
        law.kl(lambda labels: torch.zeros(len(labels)))
    with pytest.raises(ValueError, match=r"log_prob: expected probabilities that sum to 1, got nan"):
        law.kl(lambda labels: torch.full((len(labels),), math.nan))
    with pytest.raises(ValueError, match=r"log_prob: expected a tensor of shape \(8,\), got \(8, 3\)"):
        law.kl(lambda labels: labels.double())


def _flat(*spatial: int, labels: int = 2) -> PottsEnergy:
    return PottsEnergy(torch.zeros(1, labels, *spatial), torch.zeros(1, len(spatial), *spatial))


def _complete(nodes: int) -> PottsEnergy:
    every = Graph(torch.combinations(torch.arange(nodes)).T, nodes)
    return PottsEnergy(torch.zeros(1, 2, nodes), torch.zeros(1, len(every)), None, every)


_TOO_LARGE = {
    "3 x 9": (_flat(3, 9), "enumeration", r"at most 26 pixels of 2 labels to enumerate, got 27; .*eliminat"),
    "labels": (_flat(17, labels=3), "enumeration", r"at most 16 pixels of 3 labels to enumerate, got 17; "),
    "wide": (_flat(40, 64), "auto", r"a frontier of at most 21 pixels of 2 labels .* got 40 "
             r"\(tables of 2\^41 numbers, 1.64e\+04 GiB\); up to 26 pixels can be .*flowcut.gibbs$"),
    "3 labels": (_flat(13, 13, labels=3), "elimination", r"a frontier of at most 12 pixels of 3 .* got 13 "),
    "huge": (_flat(900, 800), "auto", r"a frontier of .* got 800 .* 1e232 GiB"),
    "16 labels": (_flat(300, 300, labels=16), "elimination", r"a frontier .*of 16\^301 numbers, 1e354 GiB"),
    "dense": (_complete(24), "elimination", r"a frontier of .* got 23 .*; method='enumeration' is possible$"),
    "both": (_complete(27), "auto", r"a frontier of .* got 26 .*; up to 26 pixels can be enumerated"),
}  # fmt: skip


@pytest.mark.parametrize("name", _TOO_LARGE)
def test_what_is_too_large(name: str) -> None:
    energy, method, words = _TOO_LARGE[name]
    with pytest.raises(ValueError, match=rf"^energy: expected {words}"):
        exact_law(energy, method)  # type: ignore[arg-type]


def test_states_of_a_large_grid_are_refused() -> None:
    law = exact_law(_flat(3, 9))
    with pytest.raises(ValueError, match=r"^states: expected at most 26 pixels .* got 27; .*kl_from_samples"):
        law.states()
    with pytest.raises(ValueError, match=r"^states: "):
        law.kl(lambda labels: labels.double().flatten(1).sum(dim=1))
