"""One call of a perturbed cut: its noise, its samples, and what they become."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from flowcut.cut.adjoint import expected_by_levels, expected_by_scores
from flowcut.cut.perturbed_noise import EDGES, SCORES, Noise
from flowcut.cut.perturbed_samples import Rule, both_signs
from flowcut.cut.total_variation_problem import Problem
from flowcut.kernels.guard import guarded
from flowcut.kernels.total_variation import block_means

Cut = Callable[[Tensor, Tensor], Tensor]


class Draws(NamedTuple):
    """The problem and the noise of its M samples.

    Attributes
    ----------
    problem
        Scores and edges as they are.
    samples
        M.
    z, u
        Noise (N, P, C, *spatial) of the scores and (N, P, G, K, *spatial) or (N, P, G, E) of the log-edges,
        None where there is none; P = M, or M / 2 in pairs.
    rule
        How they become a derivative.
    """

    problem: Problem
    samples: int
    z: Tensor | None
    u: Tensor | None
    rule: Rule

    def inputs(self, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores (N M, C, *spatial) and edges (N M, G, K, *spatial) or (N M, G, E) of all samples."""
        s, w, (a, b) = self.problem.scores[:, None], self.problem.edges[:, None], self.rule.sigmas
        items = len(s)
        if z is not None:
            s = s + a * both_signs(z, self.rule.variance)
        if self.u is not None:
            # Ties that leave the picture may be anything: 0 keeps them from looking like too much noise.
            w = torch.where(self.problem.inside, w, 0.0) * (b * both_signs(self.u, self.rule.variance)).exp()
            w = guarded(w, f"sigma: expected noise that keeps edges finite with {b:g}")
        s, w = (t.expand(items, self.samples, *t.shape[2:]).flatten(0, 1) for t in (s, w))
        return s, w

    def by_scores(
        self, fn: Callable[[Tensor, Tensor], Tensor], x: Tensor, w: Tensor, grouped: bool
    ) -> Tensor:
        """Expected labels (N, C, *spatial) for any function of scores and edges.

        Parameters
        ----------
        fn
            As in :func:`flowcut.perturbed`.
        x, w
            Scores and edges, differentiable.
        grouped
            Whether ``fn`` gets edges with an axis of groups.
        """
        scores, edges = self.inputs(self.z)
        with torch.no_grad():
            found = fn(scores, edges if grouped else edges[:, 0])
        labels = _read_labels(found, scores).reshape(len(x), -1, *x.shape[1:])
        return expected_by_scores(x, w, labels, self.z, self.u, self.problem.inside, self.rule)

    def by_levels(self, x: Tensor, w: Tensor) -> Tensor:
        """Expected labels (N, 1, *spatial) of minimum cuts; the formula stands in adjoint.py.

        Parameters
        ----------
        x, w
            Scores of one channel and edges, differentiable.
        """
        assert self.z is not None
        # Pieces by ties of whatever weight: also what an edge of 0 would change by growing is seen then.
        zero, ones = torch.zeros_like(self.problem.scores[:1]), torch.ones_like(self.problem.edges[:1])
        pieces = Problem(zero, ones, self.problem.where).blocks(zero)
        z = self.z[:, :, 0]
        rest = (z - block_means(z, pieces.expand(z.shape).contiguous()))[:, :, None]
        numbers = pieces.flatten()
        sizes = torch.zeros_like(zero).flatten().index_add(0, numbers, torch.ones_like(zero).flatten())
        rates = sizes[numbers].sqrt().reshape(zero.shape).expand_as(x) / self.rule.sigmas[0]
        levels, _, blocks = Problem(*self.inputs(rest), self.problem.where).exact(False)
        levels, blocks = (t.reshape(len(x), -1, *x.shape[2:]) for t in (levels, blocks))
        return expected_by_levels(x, w, levels, rates, blocks, self.u, self.problem.ends, self.rule)


def draw(problem: Problem, noise: Noise, on: str, samples: int, rule: Rule) -> Draws:
    """Noise for ``on`` = "scores", "edges" or "both".

    Parameters
    ----------
    problem
        What is to be perturbed.
    noise
        Where it comes from.
    on, samples, rule
        See :class:`Draws`.

    Examples
    --------
    >>> from flowcut.core.neighborhood import Neighborhood
    >>> problem = Problem(torch.zeros(1, 1, 3), torch.ones(1, 1, 1, 3), Neighborhood.edges(1))
    >>> draw(problem, Noise((0,), 1, 0), "scores", 4, Rule("antithetic", (1.0, 1.0), problem.offsets)).z.shape
    torch.Size([1, 2, 1, 3])
    """
    count = samples // 2 if rule.variance == "antithetic" else samples
    device, z, u = problem.scores.device, None, None
    if on != "edges":
        z = noise.normals(SCORES, count, tuple(problem.scores.shape[1:])).to(device)
    if on != "scores":
        u = noise.normals(EDGES, count, tuple(problem.edges.shape[1:])).to(device)
    return Draws(problem, samples, z, u, rule)


def _read_labels(found: Tensor, scores: Tensor) -> Tensor:
    """What a cut gave for scores (B, C, *spatial), as values (B, C, *spatial)."""
    if not isinstance(found, Tensor):
        raise TypeError(f"fn: expected it to return a tensor, got {type(found).__name__}")
    channels, labels = scores.shape[1], (len(scores), *scores.shape[2:])
    if found.shape not in (scores.shape, labels):
        raise ValueError(
            f"fn: expected labels {labels} or values {tuple(scores.shape)}, got {tuple(found.shape)}"
        )
    if found.ndim == scores.ndim or channels == 1:
        found = found.reshape(scores.shape)
        if found.dtype == torch.bool:
            return found
        return guarded(found.to(torch.float64), "fn: expected finite values")
    if found.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        raise TypeError(f"fn: expected integer labels for {channels} channels, got {found.dtype}")
    if bool(((found < 0) | (found >= channels)).any()):
        raise ValueError(
            f"fn: expected labels 0 to {channels - 1}, got {int(found.min())} to {int(found.max())}"
        )
    return one_hot(found.long(), channels).movedim(-1, 1).bool()
