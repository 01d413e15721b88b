import torch
from torch import Tensor, nn

from flowcut.flow.integrators import GeometricEuler
from flowcut.flow.nonlinear import AssignmentFlow, assignment_flow
from tests.truths.flows import dense_omega, euler, extended_similarity, window_offsets
from tests.zoo.entry import Inputs, Layer, generator

_SETTING = {"rho": 0.7, "time": 1.0, "integrator": GeometricEuler(0.25)}


class _Assignments(nn.Module):
    """The layer returns logits; here it shall give what the function gives."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = AssignmentFlow(**_SETTING)

    def forward(self, distances: Tensor, weights: Tensor) -> Tensor:
        return self.flow(distances, weights).softmax(dim=1)


def make(items: int, spatial: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    """Three labels; a full window of side 3 whose weights sum to one over what lies inside."""
    g = generator(items, spatial)
    distances = torch.rand(items, 3, *spatial, generator=g, dtype=torch.float64)
    offsets = window_offsets(len(spatial), 3)
    weights = 0.1 + torch.rand(items, len(offsets), *spatial, generator=g, dtype=torch.float64)
    here = torch.stack(torch.meshgrid(*map(torch.arange, spatial), indexing="ij"))
    for k, offset in enumerate(offsets):
        there = here + torch.tensor(offset).reshape(-1, *(1,) * len(spatial))
        bounds = torch.tensor(spatial).reshape(-1, *(1,) * len(spatial))
        weights[:, k] *= ((there >= 0) & (there < bounds)).all(dim=0)
    return distances.to(dtype), (weights / weights.sum(dim=1, keepdim=True)).to(dtype)


def twin(distances: Tensor, weights: Tensor) -> Tensor:
    """The geometric Euler method on W with (2.5b) as it is printed."""
    offsets = window_offsets(distances.ndim - 2, 3)
    out = []
    for d, w in zip(distances, weights, strict=True):
        omega, flat = dense_omega(w, offsets), d.flatten(1).T
        start = torch.full_like(flat, 1 / flat.shape[1])
        end = euler(start, lambda p: extended_similarity(p, flat, omega, 0.7), 0.25, 4)  # noqa: B023
        out.append(end.T.reshape(d.shape))
    return torch.stack(out)


def with_weights(change) -> Inputs:
    distances, weights = make(1, (3, 4), torch.float64)
    change(weights)
    return distances, weights


entry = Layer(
    name="assignment_flow",
    call=lambda *inputs: assignment_flow(*inputs, **_SETTING),
    module=_Assignments,
    make=make,
    twin=twin,
    spatial=((2, 3), (3, 4), (7,), (1, 1), (6, 1), (2, 3, 3)),
    singular=(
        (lambda: with_weights(lambda w: w[..., 0].zero_()), "weights: .*sum 0"),
        (lambda: with_weights(lambda w: w[:, 4].sub_(2)), r"weights: .*a weight -"),
        (lambda: with_weights(lambda w: w[:, 4, 1, 1].fill_(float("nan"))), "weights: .*sum"),
    ),
)
