"""Focal and Focal Dice losses against the printed formulas, torchvision and smp."""

import math

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from flowcut.vision.losses import CrossEntropyLoss, DiceLoss, FocalDiceLoss, FocalLoss
from flowcut.vision.losses.odds import log_odds


def example(channels: int, spatial=(5, 6), labels: int = 2):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, channels, *spatial, generator=generator, dtype=torch.float64)
    return logits, torch.randint(labels, (3, *spatial), generator=generator)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.0])
def test_focal_is_equation_26(gamma):
    logits, y = example(1)
    p = logits[:, 0].sigmoid()
    expected = -y * (1 - p) ** gamma * p.log() - (1 - y) * p**gamma * (1 - p).log()
    torch.testing.assert_close(FocalLoss(gamma=gamma)(logits, y), expected.mean())


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_torchvision_s(gamma):
    logits, y = example(1, (3, 4, 5))
    theirs = sigmoid_focal_loss(logits[:, 0], y.double(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(FocalLoss(gamma=gamma)(logits, y), theirs)


def test_focal_is_that_of_segmentation_models_pytorch():
    logits, y = example(1)
    theirs = smp.losses.FocalLoss("binary", gamma=2.0)(logits, y.unsqueeze(1))
    torch.testing.assert_close(FocalLoss(gamma=2.0)(logits, y), theirs)


@pytest.mark.parametrize("channels", [2, 5])
@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_multiclass_focal_is_written_out(channels, gamma):
    logits, y = example(channels, labels=channels)
    p = logits.softmax(1).gather(1, y.unsqueeze(1))
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    torch.testing.assert_close(FocalLoss("multiclass", gamma)(logits, y), expected)


@pytest.mark.parametrize("mode", ["binary", "multiclass"])
def test_focal_with_gamma_zero_is_cross_entropy(mode):
    logits, y = example(1 if mode == "binary" else 3)
    torch.testing.assert_close(FocalLoss(mode, 0.0)(logits, y), CrossEntropyLoss(mode)(logits, y))


@pytest.mark.parametrize("mode", ["binary", "multiclass"])
@pytest.mark.parametrize("size", [40.0, 1000.0])
def test_confident_pixels_lose_no_digits(mode, size):
    right = torch.tensor([[[-size]], [[size]]]) if mode == "binary" else torch.tensor([[[size], [0.0]]])
    y = torch.tensor([[0], [1]]) if mode == "binary" else torch.tensor([[0]])
    for sign in (1, -1):
        logits = (sign * right).requires_grad_()
        value = FocalLoss(mode, gamma=2.0)(logits, y)
        value.backward()
        # Right: (1 - p)^2 log 1/p = exp(-3 size). Wrong: size.
        expected = math.exp(-3 * size) if sign == 1 else size
        assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-38)
        assert logits.grad.isfinite().all()


def test_log_odds_in_float32_are_those_of_float64():
    logits = 30 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    wide = logits.double()
    others = torch.stack([wide[:, [k for k in range(4) if k != c]].logsumexp(1) for c in range(4)], 1)
    torch.testing.assert_close(log_odds(logits).double(), wide - others, rtol=1e-5, atol=1e-5)


def printed_s(x, t, gamma):
    """(27) with the plus that facts and a bounded S ask for."""
    u = (x - t + 0.5).clamp(0, 1)
    return u**gamma / (u**gamma + (1 - u) ** gamma)


@pytest.mark.parametrize("t", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("channels", [1, 4])
def test_focal_dice_is_equation_28(t, gamma, channels):
    logits, target = example(channels, labels=max(channels, 2))
    p = logits.sigmoid() if channels == 1 else logits.softmax(1)
    s = printed_s(p, t, gamma).flatten(2)
    y = target.unsqueeze(1) if channels == 1 else F.one_hot(target, channels).movedim(-1, 1)
    y = y.flatten(2).double()
    expected = 1 - 2 * (s * y).sum(2) / ((s * s).sum(2) + (y * y).sum(2))
    loss = FocalDiceLoss("binary" if channels == 1 else "multiclass", gamma=gamma, threshold=t)
    torch.testing.assert_close(loss(logits, target), expected.sum(1).mean())


@pytest.mark.parametrize("form", ["clamp", "logits"])
def test_at_one_half_it_is_dice_at_a_temperature(form):
    logits, target = example(1)
    for gamma in (0.5, 2.0, 7.0):
        focal = FocalDiceLoss(gamma=gamma, form=form)(logits, target)
        torch.testing.assert_close(focal, DiceLoss()(gamma * logits, target))
    logits, target = example(2)
    focal = FocalDiceLoss("multiclass", gamma=3.0, form=form)(logits, target)
    torch.testing.assert_close(focal, DiceLoss("multiclass")(3 * logits, target))


def test_with_three_classes_it_is_no_temperature():
    logits, target = example(3, labels=3)
    focal = FocalDiceLoss("multiclass", gamma=2.0)(logits, target)
    assert abs(focal - DiceLoss("multiclass")(2 * logits, target)) > 1e-3


@pytest.mark.parametrize("t", [0.2, 0.5, 0.7])
def test_the_form_on_logits_is_one_half_at_the_threshold(t):
    logits = torch.full((1, 1, 1), math.log(t / (1 - t)), dtype=torch.float64)
    # S = 1/2 against y = 1: 1 - 2 (1/2) / (1/4 + 1) = 1/5.
    loss = FocalDiceLoss(threshold=t, gamma=5.0, form="logits")
    assert loss(logits, torch.ones(1, 1).long()).item() == pytest.approx(0.2)


def test_clamping_takes_the_gradient_of_confident_errors_and_logits_keep_it():
    # p = 0.05 where the label is 1, and u = p - 0.7 + 0.5 < 0.
    logits = torch.tensor([[[math.log(0.05 / 0.95), 1.0]]])
    grads = {}
    for form in ("clamp", "logits"):
        x = logits.clone().requires_grad_()
        FocalDiceLoss(threshold=0.7, form=form)(x, torch.ones(1, 2).long()).backward()
        grads[form] = x.grad[0, 0, 0].item()
    assert grads["clamp"] == 0
    assert grads["logits"] < 0


@pytest.mark.parametrize(
    ("make", "arguments", "name"),
    [
        (FocalLoss, {"gamma": -1.0}, "gamma"),
        (FocalLoss, {"gamma": math.nan}, "gamma"),
        (FocalDiceLoss, {"gamma": 0.0}, "gamma"),
        (FocalDiceLoss, {"threshold": 1.0}, "threshold"),
        (FocalDiceLoss, {"form": "both"}, "form"),
        (FocalDiceLoss, {"smooth": -1.0}, "smooth"),
    ],
)
def test_bad_settings(make, arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        make(**arguments)


def test_settings_are_printed():
    assert "gamma=3.0" in repr(FocalLoss(gamma=3.0))
    assert "form='logits'" in repr(FocalDiceLoss(form="logits"))
