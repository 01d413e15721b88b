"""Every layer of the zoo keeps the promises of the house."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from tests.zoo import LAYERS
from tests.zoo.entry import Inputs, Layer

pytestmark = pytest.mark.parametrize("layer", LAYERS, ids=str)


def _leaves(inputs: Inputs) -> Inputs:
    return tuple(t.detach().clone().requires_grad_() for t in inputs)


def _gradients(layer_call, inputs: Inputs) -> tuple[Tensor, ...]:
    out = layer_call(*inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
    return torch.autograd.grad((out.double() * weights).sum(), inputs, materialize_grads=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_equals_its_dense_twin(layer: Layer, dtype: torch.dtype) -> None:
    for spatial in layer.spatial:
        inputs = layer.make(2, spatial, dtype)
        out = layer.call(*inputs)
        truth = layer.twin(*(t.double() for t in inputs))
        assert out.dtype == dtype
        assert out.shape == truth.shape
        torch.testing.assert_close(out.double(), truth, rtol=0, atol=layer.tolerance[dtype])


def test_gradients_equal_the_dense_twin_s(layer: Layer) -> None:
    for spatial in layer.spatial:
        inputs = _leaves(layer.make(2, spatial, torch.float64))
        for ours, truth in zip(_gradients(layer.call, inputs), _gradients(layer.twin, inputs), strict=True):
            torch.testing.assert_close(ours, truth, rtol=0, atol=1e-8)


def test_first_and_second_derivatives(layer: Layer) -> None:
    inputs = _leaves(layer.make(2, layer.spatial[0], torch.float64))
    assert gradcheck(layer.call, inputs)
    assert gradgradcheck(layer.call, inputs)


def test_batch_equals_loop(layer: Layer) -> None:
    if not layer.item_axis:
        pytest.skip("the output is a mean over the items")
    inputs = layer.make(3, layer.spatial[0], torch.float32)
    together = layer.call(*inputs)
    apart = torch.cat([layer.call(*(t[n : n + 1] for t in inputs)) for n in range(3)])
    assert torch.equal(together, apart)


def test_vmap_and_functional_gradients(layer: Layer) -> None:
    inputs = tuple(t[None].repeat(2, *(1,) * t.ndim) for t in layer.make(2, layer.spatial[0], torch.float64))
    inputs = (inputs[0] * torch.tensor([1.0, -2.0]).reshape(2, *(1,) * (inputs[0].ndim - 1)), *inputs[1:])
    together = torch.vmap(layer.call)(*inputs)
    for n in range(2):
        torch.testing.assert_close(together[n], layer.call(*(t[n] for t in inputs)))
    gradient = torch.func.grad(lambda *args: layer.call(*args).square().sum())
    mapped = torch.vmap(gradient)(*inputs)
    torch.testing.assert_close(mapped[1], gradient(*(t[1] for t in inputs)))


def test_non_contiguous_inputs(layer: Layer) -> None:
    inputs = layer.make(2, layer.spatial[0], torch.float64)
    strided = tuple(torch.stack([t, t + 1], dim=-1)[..., 0] for t in inputs)
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(layer.call(*strided), layer.call(*inputs), rtol=0, atol=0)


def test_empty_batch(layer: Layer) -> None:
    inputs = _leaves(layer.make(0, layer.spatial[0], torch.float32))
    out = layer.call(*inputs)
    if layer.item_axis:
        assert out.shape[0] == 0
    out.sum().backward()


def test_zero_inputs(layer: Layer) -> None:
    inputs = layer.make(2, layer.spatial[0], torch.float32)
    out = layer.call(torch.zeros_like(inputs[0]), *inputs[1:])
    assert torch.isfinite(out).all()
    truth = layer.twin(torch.zeros_like(inputs[0]).double(), *(t.double() for t in inputs[1:]))
    torch.testing.assert_close(out.double(), truth, rtol=0, atol=1e-6)


def test_singular_inputs_are_refused(layer: Layer) -> None:
    for make, message in layer.singular:
        with pytest.raises(ValueError, match=message):
            layer.call(*make())


def test_not_a_number_is_refused_by_name(layer: Layer) -> None:
    inputs = layer.make(1, layer.spatial[0], torch.float32)
    inputs[0].flatten()[1] = float("nan")
    with pytest.raises(ValueError, match=r"^\w+: .*nan"):
        layer.call(*inputs)


def test_compiles_in_one_graph(layer: Layer) -> None:
    inputs = _leaves(layer.make(2, layer.spatial[0], torch.float32))
    compiled = torch.compile(layer.call, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), layer.call(*inputs))
    for ours, eager in zip(_gradients(compiled, inputs), _gradients(layer.call, inputs), strict=True):
        torch.testing.assert_close(ours, eager)


def test_exports(layer: Layer) -> None:
    inputs = layer.make(2, layer.spatial[0], torch.float32)
    program = torch.export.export(layer.module(), inputs)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    torch.testing.assert_close(loaded(*inputs), layer.call(*inputs))
