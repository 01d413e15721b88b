"""The Ising model in the physicists' variables."""

from __future__ import annotations

import torch
from torch import Tensor

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.joint.energy import PottsEnergy


class IsingEnergy(PottsEnergy):
    """E = -sum_i h_i s_i - sum_ij c_ij s_i s_j with spins s = 2 alpha - 1 in {-1, 1}.

    A :class:`PottsEnergy` of two labels: since -c s s' = -c + 2c [s != s'], a coupling c costs 2c where
    the labels differ, and the constant is -sum c.

    Parameters
    ----------
    field
        (N, 1, *spatial), finite: h, > 0 draws to label 1.
    couplings
        (N or 1, K, *spatial) or (N or 1, 1, K, *spatial), on a graph (N or 1, [1,] E): c, > 0 aligns
        (ferromagnet), of any sign.
    neighborhood
        As in :class:`PottsEnergy`.

    Raises
    ------
    TypeError, ValueError
        As in :class:`PottsEnergy`.

    Examples
    --------
    >>> energy = IsingEnergy(torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[1.0, 0.0]]]))
    >>> energy.energy(torch.tensor([[1, 1], [1, 0], [0, 0]])).tolist()
    [-1.5, 0.5, -0.5]
    """

    def __init__(
        self, field: Tensor, couplings: Tensor, neighborhood: Neighborhood | Graph | None = None
    ) -> None:
        check_floating("field", field)
        if field.ndim < 3 or field.shape[1] != 1:
            raise ValueError(f"field: expected shape (N, 1, *spatial), got {tuple(field.shape)}")
        check_floating("couplings", couplings)
        super().__init__(torch.cat([field, -field], dim=1), 2 * couplings, None, neighborhood)
        assert self.edges is not None  # read, and zero outside the picture
        object.__setattr__(self, "constant", -0.5 * self.edges.flatten(1).sum(dim=1))
