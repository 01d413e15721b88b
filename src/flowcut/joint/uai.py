r"""Energies as UAI "MARKOV" files, the format of the UAI inference competitions.

Such a file holds factors f_a over at most a few variables, as plain numbers separated by white space:

    MARKOV, the number of variables, their numbers of labels, the number of factors,
    of every factor its order and its variables, then of every factor the size and the entries of its
    table, the last variable fastest.

The law is the product of the factors divided by Z, so that costs are -log f_a.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from flowcut.core.neighborhood import Graph
from flowcut.joint.energy import PottsEnergy
from flowcut.joint.flat import flatten_energy

# exp(-cost) must neither overflow nor leave the normal numbers, where digits are lost.
_LARGEST_COST = 700.0


def parse_uai(text: str, source: str) -> PottsEnergy:
    """Read an energy of a graph from the text of a UAI file.

    Parameters
    ----------
    text
        All of the file. Factors over the same variables are multiplied; a factor without variables is a
        constant.
    source
        The name that errors begin with.

    Returns
    -------
    PottsEnergy
        One energy, float64, of a graph, with a table for every tie.

    Raises
    ------
    ValueError
        It is no such file, it ends too early or too late, variables have different numbers of labels, a
        factor has more than two variables, or an entry is not > 0 and finite.

    Examples
    --------
    Two variables, of which the first is 1 three times as often as 0, and which like to agree:

    >>> energy = parse_uai("MARKOV 2 2 2 2 1 0 2 0 1 2 0.25 0.75 4 2 1 1 2", "two.uai")
    >>> energy.energy(torch.tensor([[1, 1]])).neg().exp()
    tensor([1.5000], dtype=torch.float64)
    """
    words = _Words(source, text.split())
    kind = words.next("MARKOV")
    if kind != "MARKOV":
        raise ValueError(f'{source}: expected a UAI file that begins with "MARKOV", got "{kind[:20]}"')
    count = words.integer("the number of variables", 1)
    labels = _labels([words.integer(f"the labels of variable {i}", 1) for i in range(count)], source)
    scopes = [_scope(words, number, count) for number in range(words.integer("the number of factors", 0))]
    _refuse_large(scopes, source)
    costs = _Costs(np.zeros((count, labels)))
    for number, scope in enumerate(scopes):
        costs.add(scope, _table(words, number, labels ** len(scope)).reshape((labels,) * len(scope)))
    words.end()
    return costs.energy()


def format_uai(energy: PottsEnergy) -> str:
    """Write an energy as the text of a UAI file.

    Parameters
    ----------
    energy
        One energy. Its constant goes into the factor of the first node, so that the product of all factors is
        exp(-E).

    Returns
    -------
    str
        Entries have the digits that a double needs.

    Raises
    ------
    ValueError
        There is more than one energy, no node, or a cost is beyond +-700, whose exponential is no normal
        number.

    Examples
    --------
    >>> text = format_uai(PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[2.0, 0.0]]])))
    >>> parse_uai(text, "energy").energy(torch.tensor([[0, 1]]))
    tensor([2.], dtype=torch.float64)
    """
    if energy.items != 1:
        raise ValueError(f"energy: expected one energy, got {energy.items}; take energy[i]")
    with torch.no_grad():
        flat = flatten_energy(energy)
        unary, tables = flat.unary[0].clone(), flat.full_tables()[0]
    count, labels = unary.shape
    if not count:
        raise ValueError("energy: expected at least one node for a UAI file, got none")
    unary[0] += flat.constant[0]
    largest = max(float(costs.abs().max()) if costs.numel() else 0.0 for costs in (unary, tables))
    if largest > _LARGEST_COST:
        raise ValueError(
            f"energy: expected costs within +-{_LARGEST_COST:g} for a UAI file, got {largest:.6g}; "
            "a file that ends in .npz takes any"
        )
    lines = ["MARKOV", str(count), " ".join([str(labels)] * count), str(count + len(tables))]
    lines += [f"1 {i}" for i in range(count)] + [f"2 {i} {j}" for i, j in flat.pairs.tolist()]
    for costs in (*unary, *tables):
        row = costs.neg().exp().flatten().tolist()
        lines += [str(len(row)), " ".join(map(repr, row))]
    return "\n".join(lines) + "\n"


@dataclass
class _Words:
    """The words of a file, taken one after the other."""

    source: str
    words: list[str]
    place: int = 0

    def next(self, what: str) -> str:
        if self.place == len(self.words):
            raise ValueError(f"{self.source}: expected {what}, but the file ends after {self.place} words")
        self.place += 1
        return self.words[self.place - 1]

    def integer(self, what: str, least: int) -> int:
        word = self.next(what)
        if not (word.isascii() and word.isdecimal() and len(word) <= 18) or int(word) < least:
            raise ValueError(f'{self.source}: expected {what}, an integer >= {least}, got "{word[:20]}"')
        return int(word)

    def numbers(self, what: str, count: int) -> NDArray[np.float64]:
        words = self.words[self.place : self.place + count]
        if len(words) < count:
            raise ValueError(
                f"{self.source}: expected {count} entries of {what}, but the file ends after {len(words)}"
            )
        self.place += count
        try:
            return np.array([float(word) for word in words])
        except ValueError as error:
            raise ValueError(f"{self.source}: expected numbers in {what}, got: {error}") from None

    def end(self) -> None:
        if self.place < len(self.words):
            left = len(self.words) - self.place
            raise ValueError(f"{self.source}: expected the end after the last factor, got {left} words more")


@dataclass
class _Costs:
    """Costs of nodes and of pairs i < j, added up over factors."""

    unary: NDArray[np.float64]
    pairs: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)
    constant: float = 0.0

    def add(self, scope: list[int], costs: NDArray[np.float64]) -> None:
        if not scope:
            self.constant += float(costs)
        elif len(scope) == 1:
            self.unary[scope[0]] += costs
        else:
            i, j = scope
            first, table = ((i, j), costs) if i < j else ((j, i), costs.T)
            self.pairs[first] = self.pairs[first] + table if first in self.pairs else table

    def energy(self) -> PottsEnergy:
        count, labels = self.unary.shape
        index = torch.tensor(list(self.pairs), dtype=torch.int64).reshape(-1, 2).T
        tables = np.stack(list(self.pairs.values())) if self.pairs else np.zeros((0, labels, labels))
        return PottsEnergy(
            torch.from_numpy(self.unary).T[None],
            None,
            torch.from_numpy(tables).permute(1, 2, 0)[None],
            Graph(index, count),
            self.constant,
        )


def _labels(found: list[int], source: str) -> int:
    least, most = min(found), max(found)
    if least != most:
        raise ValueError(
            f"{source}: expected as many labels for every variable, got {least} to {most}; "
            "give each the largest number, with small factors for the labels that it lacks"
        )
    if most < 2:
        raise ValueError(f"{source}: expected 2 or more labels, got {most}")
    return most


def _scope(words: _Words, number: int, count: int) -> list[int]:
    what = f"the variables of factor {number}"
    scope = [words.integer(what, 0) for _ in range(words.integer(f"the order of factor {number}", 0))]
    if any(i >= count for i in scope) or len(set(scope)) < len(scope):
        raise ValueError(
            f"{words.source}: expected different variables 0 to {count - 1} in factor {number}, "
            f"got {scope[:8]}"
        )
    return scope


def _refuse_large(scopes: list[list[int]], source: str) -> None:
    large = [number for number, scope in enumerate(scopes) if len(scope) > 2]
    if large:
        most = max(map(len, scopes))
        raise ValueError(
            f"{source}: expected factors of at most 2 variables, got {len(large)} of {len(scopes)} with more "
            f"(up to {most}, first factor {large[0]}); possible are costs of nodes and of pairs of nodes"
        )


def _table(words: _Words, number: int, size: int) -> NDArray[np.float64]:
    """-log of the entries of a factor."""
    what = f"factor {number}"
    given = words.integer(f"the size of {what}", 0)
    if given != size:
        raise ValueError(f"{words.source}: expected {size} entries of {what}, got {given}")
    entries = words.numbers(what, size)
    bad = entries[~((entries > 0) & (entries < math.inf))]
    if len(bad) and bad[0] == 0:
        raise ValueError(
            f"{words.source}: expected entries > 0, got 0 in {what}: an infinite energy, which no sampler "
            "here takes; a small number such as 1e-12 makes a label unlikely instead"
        )
    if len(bad):
        raise ValueError(f"{words.source}: expected finite entries > 0, got {bad[0]:g} in {what}")
    return -np.log(entries)
