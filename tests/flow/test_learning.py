"""Learning weights: descent rules by hand, targets reached, trivial cases, interruption, bad input."""

from __future__ import annotations

import math

import pytest
import torch

from flowcut.core.neighborhood import Graph
from flowcut.flow.angle import AngleLoss, angle_loss
from flowcut.flow.descent import AdamDescent, MomentumDescent, RiemannianDescent
from flowcut.flow.learning import learn_weights
from flowcut.flow.linear import linear_assignment_flow
from flowcut.flow.natural import NaturalParameters
from flowcut.flow.simplex import replicator
from flowcut.flow.weight_fit import WeightFit
from flowcut.flow.weights import softmax_weights, uniform_weights
from flowcut.flow.window import Window, window_of

_RULES = pytest.mark.parametrize(
    "descent", [RiemannianDescent(), MomentumDescent(), AdamDescent()], ids=lambda d: type(d).__name__
)


def problem(spatial: tuple[int, ...] = (12, 14), labels: int = 3, items: int = 1):
    """Noise, and labels that have nothing to do with it."""
    g = torch.Generator().manual_seed(7)
    distances = torch.rand(items, labels, *spatial, generator=g)
    target = torch.randint(labels, (items, *(-(-n // 4) for n in spatial)), generator=g)
    for axis, n in enumerate(spatial, start=1):
        target = target.repeat_interleave(4, dim=axis).narrow(axis, 0, n)
    return distances, target


# The loss (4.1)


def test_angle_loss_is_one_minus_the_cosine() -> None:
    value = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    value -= value.mean(dim=1, keepdim=True)
    target = torch.randint(3, (1, 4, 5))
    direction = torch.nn.functional.one_hot(target, 3).movedim(-1, 1).double() - 1 / 3
    cosine = (direction * value).sum() / (direction.norm() * value.norm())
    torch.testing.assert_close(angle_loss(value, target), 1 - cosine)
    torch.testing.assert_close(angle_loss(direction, target).item(), 0.0, atol=1e-12, rtol=0)
    # Void pixels are as if cut out.
    target[..., 3:] = 255
    cut = (direction[..., :3] * value[..., :3]).sum() / (direction[..., :3].norm() * value[..., :3].norm())
    torch.testing.assert_close(angle_loss(value, target), 1 - cut)


def test_angle_loss_where_there_is_no_angle() -> None:
    value = torch.zeros(1, 3, 4, requires_grad=True)
    loss = angle_loss(value, torch.zeros(1, 4, dtype=torch.int64))
    assert loss.item() == 1
    assert not torch.autograd.grad(loss, value)[0].any()
    void = angle_loss(torch.randn(2, 3, 4).requires_grad_(), torch.full((2, 4), 255))
    assert void.item() == 0
    assert torch.autograd.gradcheck(
        lambda v: angle_loss(v, torch.tensor([[0, 2, 255]])), torch.randn(1, 3, 3).double().requires_grad_()
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(1, 5, dtype=torch.int64), r"target: expected shape \(1, 4\), got \(1, 5\)"),
        (torch.full((1, 4), 3), "target: expected labels 0 to 2, got 3 to 3"),
        (torch.full((1, 4), -1), "target: expected labels 0 to 2, got -1 to -1"),
    ],
)
def test_targets_that_do_not_fit(target: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        angle_loss(torch.randn(1, 3, 4), target)
    with pytest.raises(ValueError, match=message):
        learn_weights(torch.rand(1, 3, 4), target, window=3)
    with pytest.raises(TypeError, match="target: expected an integer tensor"):
        angle_loss(torch.randn(1, 3, 4), torch.zeros(1, 4))


# Descent (4.2)


def test_riemannian_step_is_the_exponential_map_of_the_paper() -> None:
    weights = torch.rand(1, 4, 6, dtype=torch.float64).softmax(dim=1)
    grad = torch.randn_like(weights)
    parameters = NaturalParameters(Window(((-2,), (-1,), (0,), (1,))), weights, stationary=False)
    parameters.theta = weights.log()
    RiemannianDescent(0.1).update(parameters.theta, weights, grad, 2.0, {}, 1)
    # (4.2) with Exp of (2.4b) and the Riemannian gradient R_omega G
    moved = weights * torch.exp(-0.2 * replicator(weights, grad) / weights)
    torch.testing.assert_close(parameters.theta.softmax(1), moved / moved.sum(dim=1, keepdim=True))


def test_adam_is_torch_s_adam_on_theta() -> None:
    theta = torch.randn(1, 3, 5, dtype=torch.float64)
    ours, theirs = theta.clone(), theta.clone().requires_grad_()
    rule = AdamDescent(lr=0.1, eps=1e-8)
    state, optimizer = rule.init(ours), torch.optim.Adam([theirs], lr=0.1, eps=1e-8)
    coefficients = torch.randn_like(theta)
    for _ in range(4):
        weights = ours.softmax(dim=1)
        rule.update(ours, weights, coefficients.clone(), 1.0, state, 1)
        optimizer.zero_grad()
        (theirs.softmax(dim=1) * coefficients).sum().backward()
        optimizer.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_shared_weights_have_the_gradient_of_the_sum() -> None:
    spatial, window = (5, 6), Window(window_of(None, torch.empty(1, 9, 5, 6), 2).offsets)
    start = uniform_weights(spatial, 3, dtype=torch.float64)
    parameters = NaturalParameters(window, start, stationary=True)
    parameters.theta = torch.randn(1, 9, 1, 1, dtype=torch.float64)
    coefficients = torch.randn(1, 9, *spatial, dtype=torch.float64)
    theta = parameters.theta.clone().requires_grad_()
    truth = torch.autograd.grad((softmax_weights(theta.expand(1, 9, *spatial)) * coefficients).sum(), theta)[
        0
    ]
    weights = parameters.weights()
    torch.testing.assert_close(weights, softmax_weights(theta.detach().expand(1, 9, *spatial)))
    shared, slope = parameters.gradient(weights, coefficients)
    natural = shared * (slope - (shared * slope).sum(dim=1, keepdim=True))
    torch.testing.assert_close(natural, truth)


def test_huge_steps_do_not_underflow() -> None:
    distances, target = problem()
    fit = learn_weights(distances, target, window=3, rho=0.5, steps=3, descent=RiemannianDescent(1e6))
    assert torch.isfinite(fit.weights).all()
    torch.testing.assert_close(fit.weights.sum(dim=1), torch.ones(1, 12, 14))


# Learning


@_RULES
def test_pure_noise_is_taught_its_labels(descent) -> None:
    distances, target = problem((32, 32))
    fit = learn_weights(distances, target, window=5, rho=0.5, time=6.0, steps=25, descent=descent)
    assert fit.wrong[0] > 0.5
    assert fit.wrong[-1] < 0.02
    assert fit.losses[-1] < 0.5 * fit.losses[0]
    assert len(fit.losses) == len(fit.wrong) == len(fit.seconds) == fit.steps + 1 == 26
    again = linear_assignment_flow(distances, fit.weights, rho=0.5, time=6.0)
    torch.testing.assert_close(again, fit.value)
    assert (fit.labels != target).float().mean().item() == pytest.approx(fit.wrong[-1])
    # Where weights were learned they are no longer uniform.
    assert fit.entropy.mean() < uniform_weights((32, 32), 5).log().neg().max()


@pytest.mark.parametrize("gradient", ["paper", "autograd-euler", "autograd-arnoldi"])
def test_every_gradient_learns(gradient) -> None:
    distances, target = problem((16, 16))
    fit = learn_weights(distances, target, window=5, rho=0.5, steps=8, gradient=gradient)
    assert fit.losses[-1] < 0.6 * fit.losses[0]


def test_own_losses_three_axes_batches_and_stationary_weights() -> None:
    distances, target = problem((6, 8, 7), items=2)

    def cross_entropy(value: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(3 * value, labels)

    fit = learn_weights(distances, target, window=3, rho=0.5, steps=6, loss=cross_entropy)
    assert fit.losses[-1] < 0.8 * fit.losses[0]
    shared = learn_weights(
        distances, target, window=3, rho=0.5, steps=6, stationary=True, descent=MomentumDescent(0.3, 0.5)
    )
    assert shared.losses[-1] < shared.losses[0]
    middle = shared.weights[:, :, 2, 3, 3]
    torch.testing.assert_close(middle, shared.weights[:, :, 3, 4, 2])


def test_a_graph_learns_too() -> None:
    g = torch.Generator().manual_seed(0)
    pairs = torch.combinations(torch.arange(12))[torch.rand(66, generator=g) < 0.4].T
    distances, target = torch.rand(1, 2, 12, generator=g), torch.randint(2, (1, 12), generator=g)
    fit = learn_weights(distances, target, rho=0.5, steps=30, neighborhood=Graph(pairs, 12))
    assert fit.wrong[-1] < fit.wrong[0]
    assert fit.entropy.shape == (1, 12)


def test_stops_and_callbacks() -> None:
    distances, target = problem()
    seen = []
    fit = learn_weights(distances, target, rho=0.5, steps=30, stop_below=0.3, callback=seen.append)
    assert fit.converged
    assert fit.wrong[-1] <= 0.3 < fit.wrong[-2]
    assert [f.steps for f in seen] == list(range(fit.steps + 1))
    stopped = learn_weights(distances, target, rho=0.5, steps=30, callback=lambda f: f.steps == 2)
    assert stopped.steps == 2
    assert not stopped.converged
    assert learn_weights(distances, target, steps=0).steps == 0


def test_progress_is_shown_on_standard_error(capsys) -> None:
    distances, target = problem()
    learn_weights(distances, target, window=3, steps=1, progress=True)
    assert "step 1/1: loss" in capsys.readouterr().err


def test_nothing_to_learn() -> None:
    distances, target = problem()
    void = learn_weights(distances, torch.full_like(target, 255), window=3, steps=3)
    assert void.wrong == [0.0] * len(void.wrong)
    torch.testing.assert_close(void.weights, uniform_weights((12, 14), 3))
    constant = learn_weights(torch.zeros_like(distances), target, window=3, steps=3)
    assert not constant.value.any()
    assert torch.isfinite(constant.weights).all()
    single = learn_weights(distances[:, :1], torch.zeros_like(target), window=3, steps=2)
    assert single.wrong == [0.0] * 3
    pixel = learn_weights(torch.rand(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64), steps=2)
    assert pixel.weights.flatten().tolist() == [0.0] * 12 + [1.0] + [0.0] * 12


# Interruption


@_RULES
def test_continues_to_the_same_bits(tmp_path, descent) -> None:
    distances, target = problem()
    whole = learn_weights(distances, target, rho=0.5, steps=9, descent=descent)
    file = tmp_path / "learning.pt"

    def die(fit: WeightFit) -> None:
        if fit.steps == 7:
            raise KeyboardInterrupt

    arguments = {"rho": 0.5, "steps": 9, "descent": descent, "checkpoint": file, "checkpoint_every": 2}
    with pytest.raises(KeyboardInterrupt):
        learn_weights(distances, target, callback=die, **arguments)
    seen = []
    again = learn_weights(distances, target, callback=seen.append, **arguments)
    assert seen[0].steps == 6
    assert torch.equal(again.weights, whole.weights)
    assert again.losses == whole.losses
    assert again.wrong == whole.wrong
    assert again.seconds == sorted(again.seconds)


def test_files_of_others_are_refused(tmp_path) -> None:
    distances, target = problem()
    file = tmp_path / "learning.pt"
    learn_weights(distances, target, steps=1, checkpoint=file, checkpoint_every=1)
    with pytest.raises(ValueError, match="checkpoint: expected weights of shape"):
        learn_weights(distances, target, window=3, steps=1, checkpoint=file)
    with pytest.raises(ValueError, match=r"checkpoint: expected .*the same descent"):
        learn_weights(distances, target, steps=1, checkpoint=file, descent=AdamDescent())
    with pytest.raises(ValueError, match="expected a weight_fit"):
        WeightFit.load(file)
    file.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="expected a file of flowcut"):
        learn_weights(distances, target, steps=1, checkpoint=file)


def test_a_fit_is_saved_and_loaded(tmp_path) -> None:
    distances, target = problem()
    fit = learn_weights(distances, target, window=3, steps=1)
    fit.save(tmp_path / "fit.pt")
    loaded = WeightFit.load(tmp_path / "fit.pt")
    assert torch.equal(loaded.weights, fit.weights)
    assert (loaded.losses, loaded.steps) == (fit.losses, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "steps: expected an integer >= 0, got -1"),
        ({"checkpoint_every": 0}, "checkpoint_every: expected"),
        ({"stop_below": 1.5}, r"stop_below: expected a share in \[0, 1\], got 1.5"),
        ({"time": 0.0}, "time: expected a finite number > 0"),
        ({"rho": -1.0}, "rho: expected a finite number > 0"),
        ({"krylov_dim": 0}, "krylov_dim: expected an integer >= 1"),
        ({"window": 4}, "size: expected an odd window side"),
        ({"loss": lambda v, t: v.sum() * math.nan}, "loss: expected a finite number, got nan"),
    ],
)
def test_bad_arguments_are_named(arguments, message: str) -> None:
    distances, target = problem()
    with pytest.raises(ValueError, match=message):
        learn_weights(distances, target, **arguments)
    with pytest.raises(ValueError, match="stationary: expected a grid"):
        learn_weights(
            torch.rand(1, 2, 2), torch.zeros(1, 2, dtype=torch.int64), stationary=True,
            neighborhood=Graph(torch.tensor([[0], [1]]), 2),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RiemannianDescent(0), "step: expected a finite number > 0"),
        (lambda: MomentumDescent(momentum=1), r"momentum: expected a number in \[0, 1\)"),
        (lambda: AdamDescent(lr=math.inf), "lr: expected a finite number > 0"),
        (lambda: AdamDescent(betas=(0.9, 1.0)), "betas: expected"),
    ],
)
def test_bad_descents_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_module_is_the_function() -> None:
    value, target = torch.randn(2, 3, 4), torch.randint(3, (2, 4))
    assert torch.equal(AngleLoss()(value, target), angle_loss(value, target))
