import torch

from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.linear.cg import CG
from tests.truths.dense import dense_soft_cut
from tests.zoo.entry import Inputs, Layer, generator

_SOLVER = CG(rtol=1e-13)


def make(items: int, spatial: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    """Two labels that share the edges; a confidence for every pixel."""
    g = generator(items, spatial)
    scores = torch.randn(items, 2, *spatial, generator=g, dtype=torch.float64)
    edges = 4 * torch.rand(items, len(spatial), *spatial, generator=g, dtype=torch.float64)
    confidence = 0.2 + torch.rand(items, 1, *spatial, generator=g, dtype=torch.float64)
    return scores.to(dtype), edges.to(dtype), confidence.to(dtype)


def twin(scores: torch.Tensor, edges: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    offsets = tuple(tuple(int(a == b) for b in range(edges.ndim - 2)) for a in range(edges.ndim - 2))
    return dense_soft_cut(scores, edges[:, None], confidence, offsets)


def without_confidence() -> Inputs:
    scores, edges, confidence = make(1, (3, 4), torch.float64)
    return scores, edges, torch.zeros_like(confidence)


def cut_off_piece() -> Inputs:
    scores, edges, confidence = make(1, (3, 4), torch.float64)
    edges[:, 0, 1] = 0
    confidence[:, :, :2] = 0
    return scores, edges, confidence


entry = Layer(
    name="soft_cut",
    call=lambda *inputs: soft_cut(*inputs, solver=_SOLVER),
    module=lambda: SoftCut(solver=_SOLVER),
    make=make,
    twin=twin,
    spatial=((3, 4), (7,), (1, 1), (6, 1), (2, 3, 3), (2, 2, 2, 3)),
    singular=(
        (without_confidence, "confidence: .*connected piece.*12 pixels"),
        (cut_off_piece, "confidence: .*connected piece.*8 pixels"),
    ),
)
