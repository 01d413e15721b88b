"""Losses against PyTorch, segmentation-models-pytorch, closed forms and finite differences."""

import math

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from flowcut.vision.losses import CrossEntropyLoss, DiceLoss

SPATIAL = [(7,), (5, 6), (3, 4, 5), (2, 3, 2, 3)]
ZEROS, NONE = torch.zeros(2, 1, 3), torch.zeros(2, 3, dtype=torch.int64)
LOSSES = [CrossEntropyLoss, DiceLoss]


def example(channels: int, spatial: tuple[int, ...], seed: int = 0, batch: int = 3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, channels, *spatial, generator=generator, dtype=torch.float64)
    target = torch.randint(max(channels, 2), (batch, *spatial), generator=generator)
    void = torch.rand(target.shape, generator=generator) < 0.3
    return logits, torch.where(void, 255, target)


def mode_of(channels: int) -> str:
    return "binary" if channels == 1 else "multiclass"


@pytest.mark.parametrize("spatial", SPATIAL)
def test_binary_cross_entropy_is_torch_s_on_the_labelled_pixels(spatial):
    logits, target = example(1, spatial)
    valid = target != 255
    expected = F.binary_cross_entropy_with_logits(logits[:, 0][valid], target[valid].double())
    torch.testing.assert_close(CrossEntropyLoss()(logits, target), expected)


@pytest.mark.parametrize("spatial", SPATIAL)
def test_multiclass_cross_entropy_is_torch_s_with_ignore_index(spatial):
    logits, target = example(4, spatial)
    expected = F.cross_entropy(logits, target, ignore_index=255)
    torch.testing.assert_close(CrossEntropyLoss("multiclass")(logits, target), expected)


def test_cross_entropy_agrees_with_segmentation_models_pytorch():
    logits, target = example(1, (5, 6))
    theirs = smp.losses.SoftBCEWithLogitsLoss(ignore_index=None)
    clean = torch.where(target == 255, 0, target)
    torch.testing.assert_close(CrossEntropyLoss()(logits, clean), theirs(logits, clean.unsqueeze(1).double()))


@pytest.mark.parametrize("logit", [0.0, 3.0, -40.0, 500.0])
def test_cross_entropy_closed_form(logit):
    logits = torch.full((1, 1, 2, 2), logit, dtype=torch.float64)
    value = CrossEntropyLoss()(logits, torch.ones(1, 2, 2, dtype=torch.int64))
    assert value.item() == pytest.approx(math.log1p(math.exp(-abs(logit))) + max(-logit, 0), rel=1e-12)


def plain_dice(p: torch.Tensor, y: torch.Tensor) -> float:
    """Equation (7), term by term."""
    return 1 - 2 * float((p * y).sum()) / (float((p**2).sum()) + float((y**2).sum()))


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("per_image", [True, False])
def test_dice_is_equation_7(spatial, channels, per_image):
    logits, target = example(channels, spatial)
    p = logits.sigmoid() if channels == 1 else logits.softmax(1)
    groups = [[i] for i in range(len(logits))] if per_image else [list(range(len(logits)))]
    total = 0.0
    for group in groups:
        valid = target[group] != 255
        for c in range(channels):
            label = 1 if channels == 1 else c
            total += plain_dice(p[group][:, c][valid], (target[group][valid] == label).double())
    value = DiceLoss(mode_of(channels), per_image=per_image)(logits, target)
    assert value.item() == pytest.approx(total / len(groups), rel=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_dice_of_hard_predictions_is_that_of_segmentation_models_pytorch(channels):
    # Squared and plain denominators agree where probabilities are 0 and 1.
    logits, target = example(channels, (16, 16))
    target = torch.where(target == 255, 0, target)
    hard = (
        torch.where(logits > 0, 200.0, -200.0)
        if channels == 1
        else 400 * F.one_hot(logits.argmax(1)).movedim(-1, 1)
    )
    mode = mode_of(channels)
    theirs = smp.losses.DiceLoss(mode, from_logits=True)(
        hard.double(), target.unsqueeze(1) if channels == 1 else target
    )
    ours = DiceLoss(mode, per_image=False, class_reduction="mean")(hard.double(), target)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_dice_classes_are_summed_by_default():
    logits, target = example(4, (6, 6))
    mean = DiceLoss("multiclass", class_reduction="mean")(logits, target)
    torch.testing.assert_close(DiceLoss("multiclass")(logits, target), 4 * mean)


def test_smooth_lets_an_image_without_foreground_learn():
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    for smooth, learns in ((0.0, False), (1.0, True)):
        logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
        value = DiceLoss(smooth=smooth)(logits, target)
        value.backward()
        assert value.item() == pytest.approx(1 - smooth / (16 / 4 + smooth))
        assert bool((logits.grad != 0).any()) is learns


def test_dice_of_nothing_against_nothing_is_zero():
    logits = torch.full((1, 1, 3, 3), -500.0, requires_grad=True)
    value = DiceLoss()(logits, torch.zeros(1, 3, 3, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradient_by_finite_differences(make, channels):
    logits, target = example(channels, (3, 4), batch=2)
    loss = make(mode_of(channels))
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: loss(x, target), logits)


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strange", [math.inf, -math.inf, math.nan, 1e38])
def test_void_pixels_change_nothing_and_get_exactly_no_gradient(make, channels, strange):
    logits, target = example(channels, (5, 6))
    void = (target == 255).unsqueeze(1).expand_as(logits)
    loss = make(mode_of(channels))
    clean = logits.clone().requires_grad_()
    expected = loss(clean, target)
    expected.backward()
    odd = torch.where(void, strange, logits).requires_grad_()
    value = loss(odd, target)
    value.backward()
    assert torch.equal(value, expected)
    assert torch.equal(odd.grad, clean.grad)
    assert torch.equal(odd.grad[void], torch.zeros_like(odd.grad[void]))
    assert (odd.grad[~void] != 0).any()


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
def test_nan_at_a_labelled_pixel_is_not_hidden(make, channels):
    logits, target = example(channels, (5, 6))
    target[0, 0, 0] = 0
    logits[0, 0, 0, 0] = math.nan
    assert make(mode_of(channels))(logits, target).isnan()


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(2, 4, 5), (0, 4, 5), (2, 0, 5)])
def test_nothing_to_score_gives_zero_with_zero_gradient(make, channels, shape):
    logits = torch.randn(shape[0], channels, *shape[1:], requires_grad=True)
    value = make(mode_of(channels))(logits, torch.full(shape, 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_dice_leaves_out_images_without_labels():
    logits, target = example(1, (5, 6))
    target[1] = 255
    torch.testing.assert_close(DiceLoss()(logits, target), DiceLoss()(logits[[0, 2]], target[[0, 2]]))


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(make, dtype):
    logits, target = example(1, (64, 64))
    half = logits.to(dtype).requires_grad_()
    value = make()(half, target)
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad.dtype == dtype
    assert torch.equal(value, make()(half.detach().float(), target))


@pytest.mark.parametrize("make", LOSSES)
def test_any_integer_type_will_do(make):
    logits, target = example(1, (5, 6))
    torch.testing.assert_close(make()(logits, target.to(torch.uint8)), make()(logits, target))
    clean = target == 1
    torch.testing.assert_close(make()(logits, clean), make()(logits, clean.long()))


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
def test_compiles_in_one_piece(make, channels):
    logits, target = example(channels, (5, 6))
    loss = make(mode_of(channels))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize(
    ("mode", "logits", "target", "message"),
    [
        ("binary", ZEROS, NONE[:, :1], r"^target: expected integers of shape \(2, 3\)"),
        ("binary", ZEROS, NONE.float(), r"^target: expected integers.*float32"),
        ("binary", ZEROS.expand(2, 2, 3), NONE, r"^logits: expected 1 channel"),
        ("multiclass", ZEROS, NONE, r"^logits: expected 2 or more"),
        ("binary", ZEROS.long(), NONE, r"^logits: expected floating"),
        ("binary", ZEROS[0, 0], NONE[0], r"^logits: expected floating"),
        ("binary", ZEROS, NONE + 7, r"^target: expected labels 0 to 1 .*255, got \[7\]"),
        ("binary", ZEROS, NONE - 1, r"got \[-1\]"),
    ],
)
def test_bad_input_is_one_clear_line(make, mode, logits, target, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(mode)(logits, target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"mode": "both"}, "mode"),
        ({"smooth": -1.0}, "smooth"),
        ({"class_reduction": "max"}, "class_reduction"),
    ],
)
def test_bad_settings(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        DiceLoss(**arguments)


def test_ignore_index_none_counts_every_pixel():
    logits, target = example(1, (5, 6))
    with pytest.raises(ValueError, match="got \\[255\\]"):
        CrossEntropyLoss(ignore_index=None)(logits, target)


def test_settings_are_printed():
    assert "smooth=0.5" in repr(DiceLoss(smooth=0.5))
    assert "binary" in repr(CrossEntropyLoss())
