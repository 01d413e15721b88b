"""Gibbs sampling of a grid of 4 neighbours as a user of NumPy or PyTorch writes it: a checkerboard.

Black pixels have white neighbours only, so that all of a colour are drawn at once: every other row and
column, twice. (Computing every pixel and keeping one colour by a mask takes twice as long.) Chains are the
first axis or the last; which is faster depends on shape and machine. Both libraries run the same lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.joint_problem import Arrays, Labels

SETTINGS = ("chains first", "chains last")


class Library(NamedTuple):
    """What differs between the two.

    Attributes
    ----------
    array
        From NumPy.
    random
        Uniform in [0, 1), of a shape, float32.
    exp, where
        As everywhere.
    numpy
        Back to NumPy.
    """

    array: Callable[[Any], Any]
    random: Callable[[tuple[int, ...]], Any]
    exp: Callable[[Any], Any]
    where: Callable[[Any, Any, Any], Any]
    numpy: Callable[[Any], Any]


def library(name: str, seed: int = 0) -> Library:
    """NumPy or PyTorch, with a generator of its own."""
    if name == "NumPy":
        generator = np.random.default_rng(seed)
        return Library(
            np.asarray, lambda shape: generator.random(shape, np.float32), np.exp, np.where, np.asarray
        )
    source = torch.Generator().manual_seed(seed)
    return Library(
        torch.from_numpy, lambda shape: torch.rand(shape, generator=source), torch.exp, torch.where,
        lambda tensor: tensor.numpy(),
    )  # fmt: skip


class _Part(NamedTuple):
    """Pixels that are drawn at once.

    Attributes
    ----------
    here
        Their index in the framed states.
    neighbours
        Pairs of the index of a neighbour and the tie to it.
    costs
        Two labels: unary_0 - unary_1; else -unary, labels first.
    """

    here: Any
    neighbours: list[tuple[Any, Any]]
    costs: Any


class Checkerboard:
    """M chains; spins of two labels, labels of more.

    Parameters
    ----------
    given
        The energy.
    chains
        M.
    setting
        One of :data:`SETTINGS`.
    using
        NumPy or PyTorch.
    """

    def __init__(self, given: Arrays, chains: int, setting: str, using: Library) -> None:
        self.using, self.labels, self.last = using, len(given.unary), setting.endswith("last")
        self.spatial = given.unary.shape[1:]
        framed = self._layout((chains, *(side + 2 for side in self.spatial)))
        # A frame of spins 0, or of a label that nobody has; its ties are 0 anyway.
        outside, dtype = (0, np.float32) if self.labels == 2 else (-1, np.int8)
        self.states = using.array(np.full(framed, outside, dtype))
        inside = using.random(self._layout((chains, *self.spatial))) * self.labels
        self.states[self._index(slice(1, -1), slice(1, -1))] = self._from_labels(inside)
        self.parts = self._parts(given)
        labels = np.arange(self.labels, dtype=np.int8).reshape(-1, 1, 1, 1)
        self.choices = using.array(np.array([-1, 1], np.float32) if self.labels == 2 else labels)

    def advance(self, sweeps: int) -> Labels:
        """Draw every pixel so many times; the labels (M, n)."""
        draw = self._spins if self.labels == 2 else self._potts
        for _ in range(sweeps):
            for part in self.parts:
                self.states[part.here] = draw(part)
        found = self.using.numpy(self.states)
        inner = (np.moveaxis(found, -1, 0) if self.last else found)[:, 1:-1, 1:-1]
        labels: Labels = (inner > 0 if self.labels == 2 else inner).astype(np.int8).reshape(len(inner), -1)
        return labels

    def _spins(self, part: _Part) -> Any:
        """p(s = 1) = 1 / (1 + exp(-d)), d = unary_0 - unary_1 + sum w s: a tie costs w (1 - s s') / 2."""
        d = part.costs
        for index, tie in part.neighbours:
            d = d + tie * self.states[index]
        u = self.using.random(tuple(d.shape))
        return self.using.where(u * (1 + self.using.exp(-d)) < 1, self.choices[1], self.choices[0])

    def _potts(self, part: _Part) -> Any:
        """p(j) ~ exp(-unary_j + sum of the ties to neighbours of label j). The costs here never overflow."""
        logits = part.costs
        for index, tie in part.neighbours:
            logits = logits + tie * (self.states[index] == self.choices)
        reached = self.using.exp(logits).cumsum(0)
        u = self.using.random(tuple(reached.shape[1:]))
        return (reached[:-1] <= u * reached[-1]).sum(0)

    def _from_labels(self, drawn: Any) -> Any:
        """Spins or labels from numbers in [0, J)."""
        return 2.0 * (drawn >= 1) - 1 if self.labels == 2 else drawn

    def _parts(self, given: Arrays) -> list[_Part]:
        """Black in even and in odd rows, then white; parts without pixels are left out."""
        up, left = np.zeros_like(given.down), np.zeros_like(given.right)
        up[1:], left[:, 1:] = given.down[:-1], given.right[:, :-1]
        ties = (((-1, 0), up), ((1, 0), given.down), ((0, -1), left), ((0, 1), given.right))
        costs = given.unary[0] - given.unary[1] if self.labels == 2 else -given.unary
        parts = []
        for i, j in ((0, 0), (1, 1), (0, 1), (1, 0)):
            inner = slice(i, None, 2), slice(j, None, 2)
            if not up[inner].size:
                continue
            neighbours = [(self._moved(i, j, *offset), self._constant(tie[inner])) for offset, tie in ties]
            parts.append(_Part(self._moved(i, j), neighbours, self._constant(costs[..., *inner])))
        return parts

    def _moved(self, i: int, j: int, di: int = 0, dj: int = 0) -> Any:
        """Index in the framed states of every other pixel from (i, j) on, all moved by an offset."""
        height, width = self.spatial
        return self._index(
            slice(i + 1 + di, height + 1 + di, 2), slice(j + 1 + dj, width + 1 + dj, 2)
        )  # fmt: skip

    def _index(self, rows: slice, columns: slice) -> Any:
        return (rows, columns) if self.last else (slice(None), rows, columns)

    def _layout(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[1:], shape[0]) if self.last else shape

    def _constant(self, values: Any) -> Any:
        """(..., H, W), with an axis for the chains."""
        spread = values[..., None] if self.last else np.expand_dims(values, -3)
        return self.using.array(np.ascontiguousarray(spread))
