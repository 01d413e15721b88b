"""Labelings with many labels by expansion moves, each of which is a minimum cut."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.expansion_move import LabelCosts, read_costs, read_labels


class Expansion(NamedTuple):
    """A labeling that no expansion move makes cheaper, and how it was reached.

    Attributes
    ----------
    labels
        (N, *spatial) int64.
    energy
        (N,) float64: their energy, by the table as it was given.
    history
        (M + 1, N) float64: the energies at the start and after each of M moves. They never rise.
    truncated
        (N,) int64: pairs of pixels, summed over all moves, that the cut could not represent and took for
        dearer than they are. 0 for Potts and all metric tables: then every move was the best of its kind,
        and the energy exceeds the least by at most 2 max(V) / min(V) - 1 times the pairwise part of the
        least (V over unequal labels; for Potts by that part itself).
    converged
        (N,) bool: whether no move makes the labels cheaper; False if ``max_cycles`` came first.

    Examples
    --------
    >>> found = solve_alpha_expansion(torch.tensor([[[0.0, 2.0], [1.0, 0.0]]]), torch.tensor([[[3.0, 0.0]]]))
    >>> found.labels.tolist()
    [[1, 1]]
    """

    labels: Tensor
    energy: Tensor
    history: Tensor
    truncated: Tensor
    converged: Tensor


def alpha_expansion(
    unary: Tensor,
    edges: Tensor,
    pairwise: Tensor | None = None,
    neighborhood: Neighborhood | Graph | None = None,
    initial: Tensor | None = None,
    max_cycles: int | None = None,
) -> Tensor:
    r"""A labeling of low energy E(x) = sum_i unary_i[x_i] + sum_ij w_ij V[x_i, x_j].

    Boykov, Veksler and Zabih (2001): for one label after the other, all pixels are asked at once whether they
    would take it; the best answer is a minimum cut (:func:`flowcut.max_flow`). It is accepted where E falls.
    Ends when no label helps any more.

    A metric table (V[a, c] <= V[a, b] + V[b, c]) makes every move optimal. For a table that is none (a
    truncated square, for example), pairs whose costs no cut can represent are taken for dearer than they are,
    as is usual; E is always evaluated with the true table, so it never rises either way.

    Parameters
    ----------
    unary
        (N, J, *spatial), float, finite: cost of every label, J >= 1.
    edges
        (N or 1, K, *spatial) or (N or 1, 1, K, *spatial), finite, >= 0: w. Entries that leave the picture are
        never read.
    pairwise
        (J, J), finite, >= 0, symmetric, with zero diagonal: V. Default: 1 where labels differ (Potts).
    neighborhood
        Offsets of the K ties, or a :class:`flowcut.Graph` (then unary is (N, J, n), edges (N or 1, [1,] E)).
        Default: inferred from K.
    initial
        (N, *spatial), integers 0 to J - 1. Default: the cheapest label of each pixel by itself.
    max_cycles
        Stop after so many rounds through all labels. Default: go on until no move helps.

    Returns
    -------
    Tensor
        (N, *spatial) int64.

    Raises
    ------
    TypeError
        A tensor has the wrong type.
    ValueError
        Shapes do not match, a value is NaN or infinite, an edge is negative, or the table is not as above.

    See Also
    --------
    flowcut.solve_alpha_expansion : The same with energies.

    Examples
    --------
    >>> unary = torch.tensor([[[0.0, 3.0, 3.0], [3.0, 1.0, 3.0], [3.0, 0.0, 0.0]]])
    >>> alpha_expansion(unary, 2 * torch.ones(1, 1, 3)).tolist()
    [[0, 2, 2]]
    """
    return solve_alpha_expansion(unary, edges, pairwise, neighborhood, initial, max_cycles).labels


def solve_alpha_expansion(
    unary: Tensor,
    edges: Tensor,
    pairwise: Tensor | None = None,
    neighborhood: Neighborhood | Graph | None = None,
    initial: Tensor | None = None,
    max_cycles: int | None = None,
) -> Expansion:
    """:func:`alpha_expansion` with the energies of all moves.

    Parameters
    ----------
    unary, edges, pairwise, neighborhood, initial, max_cycles
        As in :func:`alpha_expansion`.

    Returns
    -------
    Expansion
        Labels, energy, history, number of truncated pairs, and whether it converged.

    Raises
    ------
    TypeError, ValueError
        As in :func:`alpha_expansion`.

    Examples
    --------
    >>> unary = torch.tensor([[[0.0, 3.0, 3.0], [3.0, 1.0, 3.0], [3.0, 0.0, 0.0]]])
    >>> found = solve_alpha_expansion(unary, 2 * torch.ones(1, 1, 3), initial=torch.zeros(1, 3).long())
    >>> found.history[0].item(), found.energy.item(), found.converged.item()
    (6.0, 2.0, True)
    """
    if max_cycles is not None and not max_cycles >= 0:
        raise ValueError(f"max_cycles: expected a number >= 0 or None, got {max_cycles}")
    costs = read_costs(unary, edges, pairwise, neighborhood)
    labels = costs.unary.argmin(dim=1) if initial is None else read_labels(initial, costs)
    count = costs.unary.shape[1]
    energy = costs.energy(labels)
    history, truncated = [energy], torch.zeros(len(labels), dtype=torch.int64, device=labels.device)
    # How many moves in a row have not helped: after as many as there are labels, none can.
    idle = torch.zeros_like(truncated)
    move = 0
    while (max_cycles is None or move < max_cycles * count) and bool((idle < count).any()):
        active = (idle < count).nonzero()[:, 0]
        found, dearer = _try_move(costs.of_items(active), labels[active], move % count)
        reached = costs.of_items(active).energy(found)
        helps = reached < energy[active]
        kept = active[helps]
        labels = labels.index_copy(0, kept, found[helps])
        energy = energy.index_copy(0, kept, reached[helps])
        truncated = truncated.index_add(0, active, dearer)
        idle[active] += 1
        idle[kept] = 0
        history.append(energy)
        move += 1
    return Expansion(labels, energy, torch.stack(history), truncated, idle >= count)


def _try_move(costs: LabelCosts, labels: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """The labels after the best expansion of one label, and how many pairs were taken for dearer."""
    switch, dearer = costs.best_switch(labels, label)
    return torch.where(switch, label, labels), dearer
