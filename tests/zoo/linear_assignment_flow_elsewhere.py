"""The linear flow from an arbitrary W_0, in two steps."""

import torch
from torch import Tensor, nn

from flowcut.flow.linear import integrate_linear_flow
from tests.truths.flows import dense_linear_flow
from tests.zoo import linear_assignment_flow as plain
from tests.zoo.entry import Inputs, Layer, generator


def make(items: int, spatial: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    distances, weights = plain.make(items, spatial, torch.float64)
    logits = torch.randn(distances.shape, generator=generator(items, spatial, 1), dtype=torch.float64)
    return distances[:, :2].to(dtype), weights.to(dtype), logits[:, :2].to(dtype)


def twin(distances: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
    return dense_linear_flow(distances, weights, 0.5, 2.0, logits)


def call(distances: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
    value = integrate_linear_flow(distances, weights, 0.5, 2.0, krylov_dim=5, steps=2, initial_logits=logits)
    return value.to(distances.dtype)


class _Module(nn.Module):
    def forward(self, distances: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
        return call(distances, weights, logits)


entry = Layer(
    name="linear_assignment_flow_elsewhere",
    call=call,
    module=_Module,
    make=make,
    twin=twin,
    spatial=((2,), (2, 2), (1, 1)),
)
