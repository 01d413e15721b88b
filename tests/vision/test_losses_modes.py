"""Modes, masks, class weights and background, against PyTorch and loops."""

import doctest
import importlib
import math

import pytest
import torch
import torch.nn.functional as F

from flowcut.vision.losses import CrossEntropyLoss, DiceLoss, FocalDiceLoss, FocalLoss

LOSSES = [
    CrossEntropyLoss,
    FocalLoss,
    DiceLoss,
    FocalDiceLoss,
    lambda **kw: FocalDiceLoss(threshold=0.4, **kw),
    lambda **kw: FocalDiceLoss(threshold=0.4, form="logits", **kw),
    lambda **kw: DiceLoss(per_image=False, **kw),
]
MODES = [("binary", 1), ("multiclass", 4), ("multilabel", 3)]
every = pytest.mark.parametrize("make", LOSSES)
modes = pytest.mark.parametrize(("mode", "channels"), MODES)


def example(mode: str, channels: int, spatial=(5, 6), batch: int = 3, void: float = 0.3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, channels, *spatial, generator=generator, dtype=torch.float64)
    shape = logits.shape if mode == "multilabel" else (batch, *spatial)
    labels = channels if mode == "multiclass" else 2
    target = torch.randint(labels, shape, generator=generator)
    return logits, torch.where(torch.rand(shape, generator=generator) < void, 255, target)


@pytest.mark.parametrize("name", ["base", "cross_entropy", "odds", "focal", "dice", "focal_dice"])
def test_examples_in_docstrings_are_true(name):
    module = importlib.import_module(f"flowcut.vision.losses.{name}")
    failed, tried = doctest.testmod(module, extraglobs={"torch": torch})
    assert not failed
    assert tried or name == "base"


@every
@modes
def test_a_mask_is_the_same_as_void_in_the_target(make, mode, channels):
    logits, target = example(mode, channels)
    mask = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    wide = mask.unsqueeze(1) if mode == "multilabel" else mask
    loss = make(mode=mode)
    expected = loss(logits, torch.where(wide, target, 255))
    assert expected > 0
    # What stands under the mask does not matter, even if it is no label.
    torch.testing.assert_close(loss(logits, torch.where(wide, target, 77), mask), expected)


@every
@modes
@pytest.mark.parametrize("strange", [-math.inf, math.nan, 1e300])
def test_what_does_not_count_gets_exactly_no_gradient(make, mode, channels, strange):
    logits, target = example(mode, channels)
    mask = torch.ones(3, 5, 6, dtype=torch.bool)
    mask[:, 2] = False
    wide = target if mode == "multilabel" else target.unsqueeze(1)
    void = ((wide == 255) | ~mask.unsqueeze(1)).expand_as(logits)
    loss = make(mode=mode)
    clean, odd = logits.clone().requires_grad_(), torch.where(void, strange, logits).requires_grad_()
    expected, value = loss(clean, target, mask), loss(odd, target, mask)
    expected.backward()
    value.backward()
    assert torch.equal(value, expected)
    assert torch.equal(odd.grad, clean.grad)
    assert (odd.grad[void] == 0).all()
    assert (odd.grad[~void] != 0).any()


@every
@modes
def test_nan_at_a_labelled_pixel_comes_through(make, mode, channels):
    logits, target = example(mode, channels)
    target[0, ..., 0, 0] = 0
    logits[0, 0, 0, 0] = math.nan
    assert make(mode=mode)(logits, target).isnan()


@every
@modes
def test_all_void_is_zero_with_zero_gradient(make, mode, channels):
    logits, target = example(mode, channels, void=2.0)
    value = make(mode=mode)(logits.requires_grad_(), target)
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@every
@modes
def test_derivatives_by_finite_differences(make, mode, channels):
    logits, target = example(mode, channels, spatial=(2, 2), batch=2)
    loss = make(mode=mode)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, target), logits)


@every
@modes
def test_half_types_are_computed_in_float32(make, mode, channels):
    logits, target = example(mode, channels)
    half = logits.bfloat16().requires_grad_()
    value = make(mode=mode)(half, target)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.equal(value, make(mode=mode)(half.detach().float(), target))


@every
@pytest.mark.parametrize(("mode", "channels"), [("multiclass", 4), ("multilabel", 3)])
def test_compiles_in_one_piece(make, mode, channels):
    torch.compiler.reset()  # the losses share code, and the number of its variants is limited
    logits, target = example(mode, channels)
    mask = torch.ones(3, 5, 6, dtype=torch.bool)
    loss = make(mode=mode)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, target, mask), loss(logits, target))


@every
def test_multilabel_is_binary_channel_by_channel(make):
    logits, target = example("multilabel", 3, spatial=(3, 4, 5), void=0.0)
    alone = [make(mode="binary")(logits[:, c : c + 1], target[:, c]) for c in range(3)]
    together = make(mode="multilabel")(logits, target)
    total = sum(alone) if isinstance(make(), DiceLoss) else sum(alone) / 3
    torch.testing.assert_close(together, total)


def test_multilabel_channels_without_labels_do_not_count():
    logits, target = example("multilabel", 3)
    target[:, 1] = 255
    kept = DiceLoss("multilabel", class_reduction="mean")(logits[:, [0, 2]], target[:, [0, 2]])
    torch.testing.assert_close(DiceLoss("multilabel", class_reduction="mean")(logits, target), kept)


def test_two_labels_read_by_a_softmax_are_those_of_the_sigmoid_of_the_difference():
    logits, target = example("multiclass", 2)
    difference = logits[:, 1:] - logits[:, :1]
    for make in (CrossEntropyLoss, FocalLoss):
        torch.testing.assert_close(make("multiclass")(logits, target), make("binary")(difference, target))
    for make in LOSSES[2:]:
        several, one = make(mode="multiclass", include_background=False), make(mode="binary")
        torch.testing.assert_close(several(logits, target), one(difference, target))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_background_can_be_left_out_of_dice(reduction):
    logits, target = example("multiclass", 4)
    p = logits.softmax(1)
    per_class = []
    for c in range(1, 4):
        for n in range(3):
            valid = target[n] != 255
            x, y = p[n, c][valid], (target[n][valid] == c).double()
            per_class.append(1 - 2 * (x * y).sum() / ((x * x).sum() + (y * y).sum()))
    expected = sum(per_class) / 3 / (3 if reduction == "mean" else 1)
    loss = DiceLoss("multiclass", include_background=False, class_reduction=reduction)
    torch.testing.assert_close(loss(logits, target), expected)


def test_class_weights_are_torch_s():
    logits, target = example("multiclass", 4)
    weight = [0.5, 2.0, 0.0, 1.0]
    expected = F.cross_entropy(logits, target, torch.tensor(weight).double(), ignore_index=255)
    torch.testing.assert_close(CrossEntropyLoss("multiclass", class_weight=weight)(logits, target), expected)
    torch.testing.assert_close(FocalLoss("multiclass", 0.0, class_weight=weight)(logits, target), expected)


def test_class_weights_of_two_labels_and_of_channels():
    logits, target = example("binary", 1)
    valid, each = target != 255, F.binary_cross_entropy_with_logits
    weight = torch.where(target[valid] == 1, 3.0, 0.5).double()
    x, y = logits[:, 0][valid], target[valid].double()
    expected = (weight * each(x, y, reduction="none")).sum() / weight.sum()
    torch.testing.assert_close(CrossEntropyLoss(class_weight=[0.5, 3.0])(logits, target), expected)
    logits, target = example("multilabel", 2, void=0.0)
    expected = sum(w / 4 * each(logits[:, c], target[:, c].double()) for c, w in ((0, 1), (1, 3)))
    torch.testing.assert_close(CrossEntropyLoss("multilabel", class_weight=[1, 3])(logits, target), expected)


def test_class_weights_are_no_state():
    assert CrossEntropyLoss(class_weight=[1, 2]).state_dict() == {}


def test_classes_of_weight_zero_alone_give_zero():
    loss = CrossEntropyLoss(class_weight=[0, 1])
    assert loss(torch.ones(1, 1, 3), torch.zeros(1, 3).long()).item() == 0


@every
@pytest.mark.parametrize(
    ("mode", "channels", "target", "mask", "message"),
    [
        ("binary", 1, (2, 3), torch.ones(2, 3), r"^mask: expected bool of shape \(2, 3\), got torch.float32"),
        ("binary", 1, (2, 3), torch.ones(2, 1, 3).bool(), r"^mask: .*got torch.bool \(2, 1, 3\)"),
        ("multilabel", 2, (2, 3), None, r"^target: expected integers of shape \(2, 2, 3\)"),
        ("multilabel", 0, (2, 0, 3), None, r"^logits: expected 1 or more channels for mode 'multilabel'"),
    ],
)
def test_bad_input_is_one_clear_line(make, mode, channels, target, mask, message):
    with pytest.raises(ValueError, match=message):
        make(mode=mode)(torch.zeros(2, channels, 3), torch.zeros(target).long(), mask)


@pytest.mark.parametrize("weight", [[-1.0, 1.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_bad_weights(weight):
    with pytest.raises(ValueError, match=r"^class_weight: expected finite numbers >= 0"):
        CrossEntropyLoss(class_weight=weight)


def test_the_number_of_weights_is_checked():
    logits, target = example("multiclass", 4)
    with pytest.raises(ValueError, match=r"^class_weight: expected 4 numbers .*got 2"):
        CrossEntropyLoss("multiclass", class_weight=[1, 2])(logits, target)
