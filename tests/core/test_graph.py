from __future__ import annotations

import pytest
import torch

from flowcut.core.neighborhood import Graph


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_a_graph_keeps_contiguous_64_bit_indices(dtype: torch.dtype) -> None:
    index = torch.tensor([[0, 1], [1, 2], [0, 2]], dtype=dtype).T
    graph = Graph(index, 3)
    assert graph.edge_index.dtype == torch.int64
    assert graph.edge_index.is_contiguous()
    assert graph.edge_index.tolist() == [[0, 1, 0], [1, 2, 2]]
    assert len(graph) == 3


def test_a_graph_without_ties() -> None:
    assert len(Graph(torch.zeros(2, 0, dtype=torch.int64), 5)) == 0


@pytest.mark.parametrize(("index", "nodes", "message"), [
    (torch.zeros(2, 3), 4, "edge_index: expected an integer tensor of shape (2, E), got torch.float32"),
    (torch.zeros(2, 3, dtype=torch.bool), 4, "edge_index: expected an integer tensor"),
    (torch.zeros(2, 3, dtype=torch.complex64), 4, "edge_index: expected an integer tensor"),
    (torch.zeros(3, 2, dtype=torch.int64), 4, "edge_index: expected an integer tensor of shape (2, E)"),
    (torch.zeros(2, dtype=torch.int64), 4, "edge_index: expected an integer tensor of shape (2, E)"),
    (torch.tensor([[0], [4]]), 4, "edge_index: expected nodes 0 to 3, got 0 to 4"),
    (torch.tensor([[-1], [2]]), 4, "edge_index: expected nodes 0 to 3, got -1 to 2"),
    (torch.tensor([[0, 2], [1, 2]]), 4, "edge_index: expected no node tied to itself"),
])  # fmt: skip
def test_bad_graphs_are_refused_by_name(index: torch.Tensor, nodes: int, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Graph(index, nodes)
    assert str(caught.value).startswith(message)
