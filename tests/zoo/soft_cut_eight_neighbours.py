import torch

from flowcut.cut.soft_cut import SoftCut, soft_cut
from flowcut.linear.cg import CG
from tests.truths.dense import dense_soft_cut
from tests.zoo.entry import Inputs, Layer, generator

_SOLVER = CG(rtol=1e-13)
_OFFSETS = ((1, 0), (0, 1), (1, 1), (1, -1))


def make(items: int, spatial: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    """Diagonals too, and edges of each label's own."""
    g = generator(items, spatial)
    scores = torch.randn(items, 2, *spatial, generator=g, dtype=torch.float64)
    edges = 4 * torch.rand(items, 2, 4, *spatial, generator=g, dtype=torch.float64)
    return scores.to(dtype), edges.to(dtype)


def twin(scores: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    return dense_soft_cut(scores, edges, torch.ones_like(scores[:1, :1]), _OFFSETS)


entry = Layer(
    name="soft_cut_eight_neighbours",
    call=lambda *inputs: soft_cut(*inputs, solver=_SOLVER),
    module=lambda: SoftCut(solver=_SOLVER),
    make=make,
    twin=twin,
    spatial=((3, 4), (1, 1), (1, 5), (6, 6)),
)
