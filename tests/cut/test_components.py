"""The public door of connected components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.cut.components import connected_components


def test_types_and_neighborhoods() -> None:
    mask = torch.rand(3, 9, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    expected = torch.from_numpy(np.stack([label(m.numpy())[0] for m in mask])).long()
    for dtype in (torch.bool, torch.uint8, torch.int32, torch.float32, torch.bfloat16):
        assert torch.equal(connected_components(mask.to(dtype)), expected)
    eight = torch.from_numpy(np.stack([label(m.numpy(), np.ones((3, 3)))[0] for m in mask])).long()
    assert torch.equal(connected_components(mask, Neighborhood.edges(2, 2)), eight)
    everything = connected_components(mask, background=False)
    assert everything[:, 0, 0].tolist() == [0, 0, 0]
    assert (everything.flatten(1).amax(dim=1) >= expected.flatten(1).amax(dim=1)).all()


def test_graph() -> None:
    graph = Graph(torch.tensor([[0, 1, 3], [1, 2, 4]]), 6)
    labels = torch.tensor([[1, 1, 1, 2, 2, 1], [1, 0, 1, 2, 1, 1]])
    assert connected_components(labels, graph).tolist() == [[1, 1, 1, 2, 2, 3], [1, 0, 2, 3, 4, 5]]


def test_refusals() -> None:
    with pytest.raises(TypeError, match="labels: expected a tensor of bool"):
        connected_components(torch.zeros(1, 3, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"labels: expected shape \(N, \*spatial\)"):
        connected_components(torch.zeros(3))
    with pytest.raises(ValueError, match="neighborhood: expected offsets of 1 axes, got 2"):
        connected_components(torch.zeros(1, 3), Neighborhood.edges(2))
    with pytest.raises(ValueError, match="labels: expected shape"):
        connected_components(torch.zeros(1, 3), Graph(torch.tensor([[0], [1]]), 2))
