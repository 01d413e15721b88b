"""Perturbed cuts: a gradient for any cut, from cuts of noisy inputs (SoftCut thesis (12))."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.core.seeds import check_seed
from flowcut.cut.expansion import alpha_expansion
from flowcut.cut.max_flow import max_flow
from flowcut.cut.perturbed_draws import draw
from flowcut.cut.perturbed_noise import noise_of
from flowcut.cut.perturbed_samples import Rule
from flowcut.cut.total_variation_problem import read_problem

Cut = Callable[[Tensor, Tensor], Tensor]
Where = Neighborhood | Graph | None
On = Literal["scores", "edges", "both"]
Gradient = Literal["levels", "scores"]
Variance = Literal["antithetic", "leave-one-out", "none"]

# Cuts that a configuration can name.
CUTS: dict[str, Callable[[Tensor, Tensor, Where], Tensor]] = {
    "max_flow": lambda scores, edges, where: max_flow(scores, edges, where),
    "alpha_expansion": lambda scores, edges, where: alpha_expansion(-scores, edges, None, where),
}


def perturbed(
    fn: str | Cut,
    samples: int = 8,
    sigma: float | Sequence[float] = 1.0,
    on: On = "scores",
    seed: int | torch.Generator = 0,
    neighborhood: Where = None,
    gradient: Gradient | None = None,
    variance: Variance = "antithetic",
) -> Perturbed:
    r"""Make a cut differentiable: the labels that it gives on average when its input is noisy.

    F(s, w) = E fn(s + a Z, w exp(b U)) with Z, U standard normal is smooth in what is perturbed, whatever fn
    is (thesis (12); Berthet et al. 2020). It is estimated, together with its derivative, from ``samples``
    calls of ``fn``, all in one batch. Edges are perturbed through their logarithms, since additive noise
    would make them negative. An edge of 0 stays 0, and its noise says nothing about its gradient: that is 0.

    Parameters
    ----------
    fn
        ``fn(scores, edges)`` for scores (B, C, *spatial) and edges in the layout that was given, of B items,
        both double precision: labels (B, *spatial), boolean for one channel, 0 to C - 1 for more; or any
        finite values (B, C, *spatial). Or the name of a cut, "max_flow" or "alpha_expansion".
    samples
        M >= 1; even with ``variance="antithetic"``.
    sigma
        Standard deviation > 0 of the noise: a, in the units of the scores, or b, of log-edges. For
        ``on="both"`` one number for both, or two.
    on
        What is perturbed: "scores", "edges" or "both".
    seed
        An integer: the same noise in every call. A generator: new noise in every call. The same numbers on
        every device, whatever the number of threads.
    neighborhood
        What ties the pixels, as in :func:`flowcut.max_flow`; needed for ties that cannot be inferred from K.
    gradient
        "scores": by scores of the noise, for any ``fn``; only what is perturbed gets a gradient. "levels":
        for minimum cuts, ``on="scores"`` or "both". One noise variable of each connected piece is integrated
        out, the rest is differentiated through the exact total variation; a sample costs a few times more,
        the variance is tens of times lower, and edges get their gradient in any case. Default: "levels" where
        it is possible.
    variance
        "antithetic": samples in pairs with opposite noise. "leave-one-out": independent samples, the mean of
        the others subtracted from each (in pairs that would cancel). "none": as printed in the thesis. With
        "levels" there is nothing to subtract, and the last two are the same.

    Returns
    -------
    Perturbed
        ``(scores, edges) -> expected labels``: (N, C, *spatial) of the type of ``scores``, in [0, 1] for
        labels. Differentiable once. Deterministic for an integer seed.

    Raises
    ------
    TypeError
        ``fn`` is no function; or, when called, an integer tensor was given.
    ValueError
        An argument is out of its range; or, when called, shapes do not match, a value is NaN, infinite, or a
        negative edge, or a gradient is asked of what is not perturbed.

    See Also
    --------
    flowcut.PerturbedCut : A module that gives logits.

    Examples
    --------
    A single pixel is labeled 1 with probability Phi(s / sigma); "levels" needs no luck for that:

    >>> scores = torch.tensor([[[1.0]]], requires_grad=True)
    >>> out = perturbed("max_flow", samples=2)(scores, torch.zeros(1, 1, 1))
    >>> out.sum().backward()
    >>> round(out.item(), 4), round(scores.grad.item(), 4)
    (0.8413, 0.242)
    """
    sigmas = (sigma,) if isinstance(sigma, float | int) else tuple(sigma)
    return Perturbed(fn, samples, sigmas, on, seed, neighborhood, gradient, variance)


@dataclass(frozen=True)
class Perturbed:
    """What :func:`perturbed` returns; ``perturbed`` explains the fields.

    Examples
    --------
    >>> cut = perturbed(lambda scores, edges: scores.argmax(dim=1), samples=100)
    >>> cut(torch.zeros(1, 3, 4, 4), torch.ones(1, 2, 4, 4)).sum(dim=1).unique()
    tensor([1.])
    """

    fn: str | Cut
    samples: int = 8
    sigma: tuple[float, ...] = (1.0,)
    on: On = "scores"
    seed: int | torch.Generator = 0
    neighborhood: Where = None
    gradient: Gradient | None = None
    variance: Variance = "antithetic"

    def __post_init__(self) -> None:
        if isinstance(self.fn, str) and self.fn not in CUTS:
            raise ValueError(f"fn: expected a function or a name out of {sorted(CUTS)}, got {self.fn!r}")
        if not isinstance(self.fn, str) and not callable(self.fn):
            raise TypeError(f"fn: expected a function or a name, got {type(self.fn).__name__}")
        for name, value, known in (
            ("on", self.on, get_args(On)),
            ("gradient", self.gradient, (None, *get_args(Gradient))),
            ("variance", self.variance, get_args(Variance)),
        ):
            if value not in known:
                raise ValueError(f"{name}: expected one of {known}, got {value!r}")
        self._check_numbers()
        if self.gradient == "levels" and not (self.is_minimum_cut and self.on != "edges"):
            raise ValueError(
                f"gradient: expected 'levels' for max_flow on scores or both only, got fn={self.fn!r}, "
                f"on={self.on!r}"
            )

    def _check_numbers(self) -> None:
        if type(self.samples) is not int or self.samples < 1:
            raise ValueError(f"samples: expected an integer >= 1, got {self.samples!r}")
        if self.variance == "antithetic" and self.samples % 2:
            raise ValueError(f"samples: expected an even number for pairs, got {self.samples}")
        allowed = (1, 2) if self.on == "both" else (1,)
        good = all(isinstance(s, int | float) and 0 < s < math.inf for s in self.sigma)
        if not good or len(self.sigma) not in allowed:
            count = "one or two finite numbers" if self.on == "both" else "a finite number"
            given = self.sigma[0] if len(self.sigma) == 1 else self.sigma
            raise ValueError(f"sigma: expected {count} > 0, got {given!r}")
        if not isinstance(self.seed, torch.Generator):
            check_seed(self.seed)

    @property
    def is_minimum_cut(self) -> bool:
        """Whether ``fn`` is known to be :func:`flowcut.max_flow`."""
        return self.fn == "max_flow" or self.fn is max_flow

    @property
    def by_levels(self) -> bool:
        """Whether derivatives go through total variation."""
        possible = self.is_minimum_cut and self.on != "edges"
        return self.gradient == "levels" or (self.gradient is None and possible)

    def __call__(self, scores: Tensor, edges: Tensor, call: int = 0) -> Tensor:
        """Expected labels (N, C, *spatial).

        Parameters
        ----------
        scores
            (N, C, *spatial), float, finite.
        edges
            (N, K, *spatial) or (N, G, K, *spatial), or of a graph (N, [G,] E), finite, >= 0, as ``fn`` takes.
        call
            Another number >= 0, other noise for the same seed.
        """
        x, w, problem = read_problem(scores, edges, self.neighborhood)
        self._check_gradients(scores, edges)
        if self.by_levels and scores.shape[1] != 1:
            raise ValueError(
                f"scores: expected one channel (two labels), got {scores.shape[1]}; see fn='alpha_expansion'"
            )
        if not scores.numel():
            return scores.clone()
        rule = Rule(self.variance, (self.sigma[0], self.sigma[-1]), problem.offsets)
        drawn = draw(problem, noise_of(self.seed, len(scores), call), self.on, self.samples, rule)
        if self.by_levels:
            return drawn.by_levels(x, w).to(scores.dtype)
        return drawn.by_scores(self._cut, x, w, grouped=edges.ndim == w.ndim).to(scores.dtype)

    def _cut(self, scores: Tensor, edges: Tensor) -> Tensor:
        if isinstance(self.fn, str):
            return CUTS[self.fn](scores, edges, self.neighborhood)
        return self.fn(scores, edges)

    def _check_gradients(self, scores: Tensor, edges: Tensor) -> None:
        """By scores of the noise, what has no noise has no gradient: better no answer than half of one."""
        if self.by_levels or self.on == "both" or not torch.is_grad_enabled():
            return
        name, value = ("edges", edges) if self.on == "scores" else ("scores", scores)
        if value.requires_grad:
            raise ValueError(
                f"{name}: expected no gradient to be asked of them with on={self.on!r}, got a tensor that "
                f"requires one; use on='both', or {name}.detach()"
            )


class PerturbedCut(nn.Module):
    """:func:`perturbed` as the last layer of a network: logits instead of expected labels.

    Let p be the expected labels from M samples. For one channel the logits are log(M p + 1/2) -
    log(M (1 - p) + 1/2), for more log(M p + 1/2). If all samples agree, log(p / (1 - p)) is infinite;
    clamping p would cut the gradient just where the network may be most wrong. The halves keep both finite,
    and with M independent samples of labels the mean of the logit is right up to O(1 / M^2) (Haldane and
    Anscombe's correction). A sigmoid or softmax of it is (M p + 1/2) / (M + L / 2) for L labels.

    In training mode every call gets new noise, counted by the buffer ``calls``, which is saved with the
    weights, so that resumed training goes on as it would have. In evaluation mode it is always the same.

    Parameters
    ----------
    fn, samples, sigma, on, neighborhood, gradient, variance
        As in :func:`perturbed`.
    seed
        An integer >= 0.

    Examples
    --------
    >>> head = PerturbedCut(samples=4)
    >>> head(torch.randn(2, 1, 8, 8), torch.rand(2, 2, 8, 8)).shape, int(head.calls)
    (torch.Size([2, 1, 8, 8]), 1)
    """

    calls: Tensor

    def __init__(
        self,
        fn: str | Cut = "max_flow",
        samples: int = 8,
        sigma: float | Sequence[float] = 1.0,
        on: On = "scores",
        seed: int = 0,
        neighborhood: Where = None,
        gradient: Gradient | None = None,
        variance: Variance = "antithetic",
    ) -> None:
        super().__init__()
        check_seed(seed)
        self.cut = perturbed(fn, samples, sigma, on, seed, neighborhood, gradient, variance)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    @property
    def neighborhood(self) -> Where:
        """What ties the pixels; None: inferred from the edges."""
        return self.cut.neighborhood

    def forward(self, scores: Tensor, edges: Tensor) -> Tensor:
        """Logits (N, C, *spatial), finite."""
        call = 0
        if self.training:
            self.calls += 1
            call = int(self.calls)
        mean = self.cut(scores, edges, call)
        many = self.cut.samples
        logits = (many * mean + 0.5).log()
        return logits - (many * (1 - mean) + 0.5).log() if scores.shape[1] == 1 else logits

    def extra_repr(self) -> str:
        """What is cut, how often, and how it is perturbed."""
        c = self.cut
        return f"fn={c.fn!r}, samples={c.samples}, sigma={c.sigma}, on={c.on!r}, by_levels={c.by_levels}"
