import torch

from flowcut.core.neighborhood import Neighborhood
from flowcut.flow.linear import LinearAssignmentFlow, integrate_linear_flow
from tests.truths.flows import dense_linear_flow
from tests.zoo.entry import Inputs, Layer, generator

# Two dimensions a pixel and one for the start is all that there is: the space is exhausted, the result exact.
_SETTING = {"rho": 0.5, "time": 2.0, "krylov_dim": 9}


def make(items: int, spatial: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    """Three labels; weights of the full window of side 3, zero where there is no neighbour."""
    g = generator(items, spatial)
    distances = torch.rand(items, 3, *spatial, generator=g, dtype=torch.float64)
    inside = Neighborhood.window(len(spatial), 3).inside(spatial)
    weights = torch.rand(items, len(inside), *spatial, generator=g, dtype=torch.float64) + 0.1
    weights = torch.where(inside, weights, 0)
    return distances.to(dtype), (weights / weights.sum(dim=1, keepdim=True)).to(dtype)


def twin(distances: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return dense_linear_flow(distances, weights, _SETTING["rho"], _SETTING["time"])


def call(distances: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return integrate_linear_flow(distances, weights, **_SETTING).to(distances.dtype)


entry = Layer(
    name="linear_assignment_flow",
    call=call,
    module=lambda: LinearAssignmentFlow(**_SETTING),
    make=make,
    twin=twin,
    spatial=((1, 2), (2, 2), (4,), (1, 1), (4, 1), (2, 1, 2)),
)
