r"""Energies of whole labelings (RAF (10)-(13)): p(alpha) = exp(-E(alpha)) / Z.

E(alpha) = constant + sum_i unary_i[alpha_i] + sum_{ij} w_ij table_ij[alpha_i, alpha_j]

over ties ij of a grid or graph. An energy is multilinear in one-hot labelings, so its mean under
independent pixels with assignments S is the same formula with S in place of the one-hot vectors
(:meth:`PottsEnergy.mean_field_energy`, RAF (17)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.ties import Tie, ties_of
from flowcut.joint.energy_inputs import find_neighborhood, finite, read_edges, read_pairwise


@dataclass(frozen=True, eq=False)
class PottsEnergy:
    """Costs of labels and of pairs of labels; one energy or a batch of them.

    Parameters
    ----------
    unary
        (N, J, *spatial), or (N, J, n) on a graph, finite: cost of every label, J >= 2.
    edges
        (N or 1, K, *spatial) or (N or 1, 1, K, *spatial), on a graph (N or 1, [1,] E): weight of every
        tie, of any sign (> 0 makes equal labels likelier). Entries whose neighbour lies outside the
        picture are never read. None, with tables for every tie, means 1.
    pairwise
        None: a tie costs its weight where the labels differ (Potts). (J, J): one table for all ties,
        times their weights; entry [a, b] is for label a at pixel i and b at pixel i + offset.
        (N or 1, K, J, J, *spatial), on a graph (N or 1, J, J, E): a table for every tie.
    neighborhood
        Offsets of the K ties, or a graph. Default: inferred from K, see
        :meth:`flowcut.Neighborhood.infer`.
    constant
        A number or (N,): added to every energy.

    Raises
    ------
    TypeError
        A tensor is not floating.
    ValueError
        Shapes do not fit or a value is not finite.

    Examples
    --------
    Two pixels that like to agree, the first of which prefers label 1:

    >>> energy = PottsEnergy(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[2.0, 0.0]]]))
    >>> energy.energy(torch.tensor([[0, 0], [1, 1], [1, 0]])).tolist()
    [1.0, 0.0, 2.0]
    """

    unary: Tensor
    edges: Tensor | None
    pairwise: Tensor | None = None
    neighborhood: Neighborhood | Graph | None = None
    constant: Tensor | float = 0.0

    def __post_init__(self) -> None:
        check_floating("unary", self.unary)
        if self.unary.ndim < 3 or self.unary.shape[1] < 2:
            raise ValueError(
                f"unary: expected shape (N, J, *spatial) with J >= 2 labels, got {tuple(self.unary.shape)}"
            )
        dtype = self.unary.dtype
        for name in ("edges", "pairwise"):
            tensor = getattr(self, name)
            if tensor is not None:
                check_floating(name, tensor)
                dtype = torch.promote_types(dtype, tensor.dtype)
        object.__setattr__(self, "unary", finite("unary", self.unary.to(dtype)))
        where = find_neighborhood(self.unary, self.edges, self.pairwise, self.neighborhood)
        object.__setattr__(self, "neighborhood", where)
        object.__setattr__(self, "edges", read_edges(self.unary, self.edges, where))
        object.__setattr__(self, "pairwise", read_pairwise(self.unary, self.pairwise, where))
        constant = torch.as_tensor(self.constant, dtype=dtype, device=self.unary.device)
        if constant.ndim > 1 or constant.numel() not in (1, self.items):
            raise ValueError(
                f"constant: expected a number or shape ({self.items},), got {tuple(constant.shape)}"
            )
        object.__setattr__(self, "constant", finite("constant", constant.reshape(-1)))

    @classmethod
    def from_scores(
        cls, scores: Tensor, edges: Tensor, neighborhood: Neighborhood | Graph | None = None
    ) -> PottsEnergy:
        """The energy whose most likely labeling a cut of the same inputs looks for.

        Parameters
        ----------
        scores
            (N, C, *spatial), higher is likelier. One channel is read by a sigmoid (label 1 where it is
            positive), C >= 2 channels by a softmax: without ties the law is exactly that.
        edges, neighborhood
            As in :func:`flowcut.soft_cut`, shared by the channels.

        Examples
        --------
        >>> energy = PottsEnergy.from_scores(torch.tensor([[[3.0, -1.0]]]), torch.ones(1, 1, 2))
        >>> energy.unary.tolist()
        [[[3.0, 0.0], [0.0, 1.0]]]
        """
        check_floating("scores", scores)
        if scores.ndim < 3:
            raise ValueError(f"scores: expected shape (N, C, *spatial), got {tuple(scores.shape)}")
        if scores.shape[1] == 1:
            unary = torch.cat([scores.clamp(min=0), (-scores).clamp(min=0)], dim=1)
        else:
            unary = -scores
        return cls(unary, edges, None, neighborhood)

    @property
    def items(self) -> int:
        """N, the number of energies."""
        return self.unary.shape[0]

    @property
    def num_labels(self) -> int:
        """J."""
        return self.unary.shape[1]

    @property
    def spatial(self) -> tuple[int, ...]:
        """The pixels' axes; (n,) on a graph."""
        return tuple(self.unary.shape[2:])

    @property
    def shape(self) -> tuple[int, ...]:
        """``(J, *spatial)``."""
        return tuple(self.unary.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the costs."""
        return self.unary.dtype

    @property
    def device(self) -> torch.device:
        """Where the costs are."""
        return self.unary.device

    def __getitem__(self, item: int) -> PottsEnergy:
        """One energy of a batch, as a batch of one.

        Raises
        ------
        IndexError
            There is no such item.
        """
        if not -self.items <= item < self.items:
            raise IndexError(f"item: expected {-self.items} to {self.items - 1}, got {item}")
        item %= self.items

        def pick(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[0] == 1 else tensor[item : item + 1]

        assert self.edges is not None
        assert isinstance(self.constant, Tensor)
        pairwise = self.pairwise
        if pairwise is not None and pairwise.ndim > 2:
            pairwise = pick(pairwise)
        edges, constant = pick(self.edges), pick(self.constant)
        return PottsEnergy(pick(self.unary), edges, pairwise, self.neighborhood, constant)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | None = None) -> PottsEnergy:
        """The same energy in another floating type or on another device."""

        def move(tensor: Tensor | float | None) -> Tensor | None:
            return tensor.to(device=device, dtype=dtype) if isinstance(tensor, Tensor) else None

        unary, edges, pairwise, constant = map(move, (self.unary, self.edges, self.pairwise, self.constant))
        assert unary is not None
        assert constant is not None
        return PottsEnergy(unary, edges, pairwise, self.neighborhood, constant)

    def at_temperature(self, temperature: float) -> PottsEnergy:
        """E / temperature: below 1 the law sharpens, above 1 it flattens.

        Raises
        ------
        ValueError
            The temperature is not > 0 and finite.

        Examples
        --------
        >>> energy = PottsEnergy(torch.tensor([[[0.0, 0.0], [1.0, 0.0]]]), torch.zeros(1, 1, 2))
        >>> energy.at_temperature(0.5).unary.tolist()
        [[[0.0, 0.0], [2.0, 0.0]]]
        """
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature: expected a finite number > 0, got {temperature}")
        assert self.edges is not None
        edges, unary = self.edges / temperature, self.unary / temperature
        return PottsEnergy(unary, edges, self.pairwise, self.neighborhood, self.constant / temperature)

    def energy(self, labels: Tensor) -> Tensor:
        """E of labelings (RAF (11)), differentiable in the costs.

        Parameters
        ----------
        labels
            (M, *spatial), integers 0 to J - 1. M labelings of one energy, or one of each of M energies.

        Returns
        -------
        Tensor
            (M,).

        Raises
        ------
        TypeError, ValueError
            They are no labelings of these pixels.
        """
        self.check_labels(labels)
        index = labels.to(torch.int64)
        items = max(len(labels), self.items) if len(labels) else 0
        unary = self.unary.expand(items, *self.shape)
        total = self.constant + unary.gather(1, index.unsqueeze(1).expand(items, 1, *self.spatial)).flatten(
            1
        ).sum(dim=1)
        for tie in self.ties():
            pairs = self.tie_costs(tie, index[tie.here], index[tie.there])
            total = total + pairs.flatten(1).sum(dim=1)
        return total

    def mean_field_energy(self, assignments: Tensor) -> Tensor:
        """The mean of E where every pixel draws its label independently (RAF (17)), differentiable.

        Parameters
        ----------
        assignments
            (M, J, *spatial): S, on the simplex.

        Returns
        -------
        Tensor
            (M,).

        Raises
        ------
        TypeError, ValueError
            Not assignments of these pixels and labels.

        Examples
        --------
        >>> energy = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0]]]))
        >>> energy.mean_field_energy(torch.full((1, 2, 2), 0.5))
        tensor([0.5000])
        """
        self._check_assignments(assignments)
        x = assignments.to(self.dtype)
        total = self.constant + (self.unary * x).flatten(1).sum(dim=1)
        for tie in self.ties():
            costs = self.tie_messages(tie, x[tie.there])
            total = total + (costs * x[tie.here]).flatten(1).sum(dim=1)
        return total

    def local_costs(self, assignments: Tensor) -> Tensor:
        """What each label of each pixel costs on average, given how the others are assigned.

        The derivative of :meth:`mean_field_energy` by S. At a one-hot S these are the conditional costs
        of a Gibbs sampler: p(alpha_i = j | the others) = softmax_j(-local_costs_i).

        Parameters
        ----------
        assignments
            (M, J, *spatial).

        Returns
        -------
        Tensor
            (M, J, *spatial).

        Examples
        --------
        >>> energy = PottsEnergy(torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0.0]]]))
        >>> energy.local_costs(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])).tolist()
        [[[1.0, 0.0], [0.0, 1.0]]]
        """
        self._check_assignments(assignments)
        x = assignments.to(self.dtype)
        items = max(len(x), self.items) if len(x) else 0
        costs = self.unary.expand(items, *self.shape).clone()
        for tie in self.ties():
            tie.add_here(costs, self.tie_messages(tie, x[tie.there]))
            tie.add_there(costs, self.tie_messages(tie, x[tie.here], backwards=True))
        return costs

    def ties(self) -> Iterator[Tie]:
        """The ties inside the picture, one offset at a time; a graph's edges all at once."""
        assert self.neighborhood is not None  # found when this was made
        return ties_of(self.neighborhood, self.spatial, self.device)

    def tie_weights(self, tie: Tie) -> Tensor:
        """``(N or 1, *ties)``: w of these ties."""
        assert self.edges is not None
        return self.edges[tie.own]

    def tie_table(self, tie: Tie) -> Tensor | None:
        """Tables of these ties: None (Potts), (J, J), or ``(N or 1, J, J, *ties)``."""
        if self.pairwise is None or self.pairwise.ndim == 2:
            return self.pairwise
        return self.pairwise[tie.own]

    def tie_costs(self, tie: Tie, here: Tensor, there: Tensor) -> Tensor:
        """w table[a, b] for labels a, b ``(M, *ties)`` of the two ends."""
        weights, table = self.tie_weights(tie), self.tie_table(tie)
        if table is None:
            return weights * (here != there)
        if table.ndim == 2:
            return weights * table[here, there]
        items = max(len(here), len(table)) if len(here) else 0
        chosen = (here * self.num_labels + there).unsqueeze(1).expand(items, 1, *here.shape[1:])
        flat = table.flatten(1, 2).expand(items, -1, *table.shape[3:])
        return weights * flat.gather(1, chosen).squeeze(1)

    def tie_messages(self, tie: Tie, other: Tensor, backwards: bool = False) -> Tensor:
        """What each label of one end costs, given assignments ``(M, J, *ties)`` of the other end."""
        weights, table = self.tie_weights(tie).unsqueeze(1), self.tie_table(tie)
        if table is None:  # sum_{b != a} S_b, without assuming that S sums to 1
            return weights * (other.sum(dim=1, keepdim=True) - other)
        if table.ndim == 2:
            return weights * torch.einsum("ba,mb...->ma..." if backwards else "ab,mb...->ma...", table, other)
        return weights * (table * other.unsqueeze(2 if backwards else 1)).sum(dim=1 if backwards else 2)

    def check_labels(self, labels: Tensor) -> None:
        """Refuse what are no labelings of these pixels.

        Raises
        ------
        TypeError, ValueError
            Wrong type, shape or label.
        """
        if not isinstance(labels, Tensor) or labels.dtype.is_floating_point or labels.dtype.is_complex:
            got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(f"labels: expected an integer tensor, got {got}")
        if tuple(labels.shape[1:]) != self.spatial or not self._pairs_with(len(labels)):
            raise ValueError(
                f"labels: expected shape ({'M' if self.items == 1 else self.items}, "
                f"{', '.join(map(str, self.spatial))}), got {tuple(labels.shape)}"
            )
        low, high = (int(v) for v in torch.aminmax(labels)) if labels.numel() else (0, 0)
        if low < 0 or high >= self.num_labels:
            raise ValueError(f"labels: expected 0 to {self.num_labels - 1}, got {low} to {high}")

    def _check_assignments(self, assignments: Tensor) -> None:
        check_floating("assignments", assignments)
        if tuple(assignments.shape[1:]) != self.shape or not self._pairs_with(len(assignments)):
            raise ValueError(
                f"assignments: expected shape ({'M' if self.items == 1 else self.items}, "
                f"{', '.join(map(str, self.shape))}), got {tuple(assignments.shape)}"
            )

    def _pairs_with(self, count: int) -> bool:
        return self.items == 1 or count in (1, self.items)
