import torch
from torch import Tensor, nn

from flowcut.core.neighborhood import Neighborhood
from flowcut.flow.couplings import WindowCouplings
from flowcut.flow.integrators import RKMK
from flowcut.flow.s_flow import SFlow, s_flow
from tests.truths.flows import dense_omega
from tests.zoo.entry import Inputs, Layer, generator

_SETTING = {"time": 1.0, "integrator": RKMK(0.5, order=2)}


class _Samples(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flow = SFlow(**_SETTING)

    def forward(self, logits: Tensor, edges: Tensor, diagonal: Tensor) -> Tensor:
        return self.flow(logits, WindowCouplings(edges, diagonal)).softmax(dim=1)


def call(logits: Tensor, edges: Tensor, diagonal: Tensor) -> Tensor:
    return s_flow(None, WindowCouplings(edges, diagonal), initial_logits=logits, **_SETTING)


def make(items: int, spatial: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    """Three labels; ties of both signs, and a diagonal."""
    g = generator(items, spatial)
    shapes = (3, *spatial), (len(spatial), *spatial), spatial
    return tuple(torch.randn(items, *s, generator=g, dtype=torch.float64).to(dtype) for s in shapes)


def heun(logits: Tensor, omega: Tensor) -> Tensor:
    """Two steps of length 1/2 of dv/dt = Omega softmax(v); logits (n, J), omega (n, n)."""
    for _ in range(2):
        first = omega @ logits.softmax(dim=1)
        second = omega @ (logits + 0.5 * first).softmax(dim=1)
        logits = logits + 0.25 * (first + second)
    return logits.softmax(dim=1)


def twin(logits: Tensor, edges: Tensor, diagonal: Tensor) -> Tensor:
    offsets = Neighborhood.edges(logits.ndim - 2).offsets
    out = []
    for v, e, d in zip(logits, edges, diagonal, strict=True):
        upper = dense_omega(e, offsets)
        end = heun(v.flatten(1).T, upper + upper.T + torch.diag(d.flatten()))
        out.append(end.T.reshape(v.shape))
    return torch.stack(out)


def not_a_number(position: int) -> Inputs:
    inputs = make(1, (3, 4), torch.float64)
    inputs[position].flatten()[1] = float("nan")
    return inputs


entry = Layer(
    name="s_flow",
    call=call,
    module=_Samples,
    make=make,
    twin=twin,
    spatial=((2, 3), (3, 4), (5,), (1, 1), (6, 1), (2, 3, 3)),
    singular=(
        (lambda: not_a_number(1), "edges: .*nan"),
        (lambda: not_a_number(2), "diagonal: .*nan"),
    ),
)
