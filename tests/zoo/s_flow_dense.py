import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from flowcut.flow.couplings import DenseCouplings
from flowcut.flow.integrators import RKMK
from flowcut.flow.s_flow import SFlow, s_flow
from tests.zoo.entry import Inputs, generator
from tests.zoo.s_flow import entry as by_window
from tests.zoo.s_flow import heun

_SETTING = {"time": 1.0, "integrator": RKMK(0.5, order=2)}


class _Samples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flow = SFlow(**_SETTING)

    def forward(self, logits: Tensor, matrix: Tensor) -> Tensor:
        return self.flow(logits, DenseCouplings(matrix)).softmax(dim=1)


def make(items: int, spatial: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    g = generator(items, spatial)
    n = math.prod(spatial)
    logits = torch.randn(items, 2, *spatial, generator=g, dtype=torch.float64)
    matrix = torch.randn(items, n, n, generator=g, dtype=torch.float64) / n
    return logits.to(dtype), matrix.to(dtype)


def twin(logits: Tensor, matrix: Tensor) -> Tensor:
    ends = [heun(v.flatten(1).T, m).T.reshape(v.shape) for v, m in zip(logits, matrix, strict=True)]
    return torch.stack(ends)


def not_a_number() -> Inputs:
    logits, matrix = make(1, (3, 4), torch.float64)
    matrix[0, 2, 1] = float("nan")
    return logits, matrix


entry = replace(
    by_window,
    name="s_flow_dense",
    call=lambda logits, matrix: s_flow(None, DenseCouplings(matrix), initial_logits=logits, **_SETTING),
    module=_Samples,
    make=make,
    twin=twin,
    singular=((not_a_number, "matrix: .*nan"),),
)
