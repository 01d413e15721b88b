"""Does every connected piece hold on to some score? Otherwise A x = b has no unique answer."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from flowcut.core.neighborhood import Offset, source_slices, target_slices


def grid_ties(spatial: tuple[int, ...], offsets: tuple[Offset, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """All ties of a grid as (flat i, flat j, position in a flattened (K, *spatial) tensor)."""
    pixels = torch.arange(int(np.prod(spatial))).reshape(spatial)
    here = [pixels[source_slices(o, spatial)].reshape(-1) for o in offsets]
    there = [pixels[target_slices(o, spatial)].reshape(-1) for o in offsets]
    place = [i + k * pixels.numel() for k, i in enumerate(here)]
    return torch.cat(here), torch.cat(there), torch.cat(place)


def check_grounded(i: Tensor, j: Tensor, ties: Tensor, leak: Tensor) -> None:
    """Refuse a connected piece in which no pixel has any confidence.

    Parameters
    ----------
    i, j
        (E,) int64: the two ends of each tie.
    ties
        (N, G, E), only ties > 0 connect.
    leak
        (N or 1, 1 or C, n).

    Raises
    ------
    ValueError
        Such a piece exists: its system is singular.
    """
    first, second = i.numpy(), j.numpy()
    for n in range(ties.shape[0]):
        for c in range(max(ties.shape[1], leak.shape[1])):
            own = leak[n % leak.shape[0], c % leak.shape[1]].numpy()
            tied = ties[n, c % ties.shape[1]].numpy() > 0
            size = _ungrounded_piece(first[tied], second[tied], own)
            if size:
                raise ValueError(
                    f"confidence: expected a value > 0 in every connected piece of the picture, got a "
                    f"piece of {size} pixels without any (item {n}, channel {c}): its answer is undetermined"
                )


def _ungrounded_piece(i: NDArray[np.int64], j: NDArray[np.int64], leak: NDArray[np.floating]) -> int:
    """Number of pixels of the first piece without confidence, 0 if there is none."""
    pieces = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(len(leak), len(leak)))
    count, label = connected_components(pieces, directed=False)
    held = np.zeros(count, bool)
    held[label[leak > 0]] = True
    bare = np.flatnonzero(~held)
    return int((label == bare[0]).sum()) if len(bare) else 0
