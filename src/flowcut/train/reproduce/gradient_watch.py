"""How wrong the gradient of a solver is, watched while a network learns with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from flowcut.cut.soft_cut import soft_cut
from flowcut.linear.cholesky import Cholesky
from flowcut.linear.operator import GridOperator
from flowcut.linear.solve import solve
from flowcut.linear.solver import Solver
from flowcut.train.run_folder import write_text

__all__ = ["GradientWatch", "gradient_error"]


def gradient_error(
    scores: Tensor, edges: Tensor, solver: Solver, loss: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """Compare what a solver hands back to the network with what an exact solve hands back.

    Parameters
    ----------
    scores : Tensor
        (N, C, *spatial).
    edges : Tensor
        (N, K, *spatial).
    solver : Solver
        Of the forward and the adjoint system.
    loss : callable
        Maps potentials (N, C, *spatial) to a scalar.

    Returns
    -------
    dict
        ``error``: || g - g* || / || g* || over scores and edges together, g* from a factorisation in double
        precision; ``cosine`` of the angle between the two; ``edges``: the error of the edges' part alone;
        ``forward_steps`` and ``adjoint_steps``: iterations, mean over the batch; ``forward_error``: largest
        error of a potential.

    Examples
    --------
    >>> from flowcut.linear.cg import CG
    >>> scores, edges = torch.randn(1, 1, 8, 8), torch.rand(1, 2, 8, 8)
    >>> gradient_error(scores, edges, CG(rtol=1e-6), lambda x: x.square().mean())["error"] < 1e-4
    True
    """
    ours, potentials, slope = _gradients(scores, edges, solver, loss)
    exact, _, _ = _gradients(scores.double(), edges.double(), Cholesky(), loss)
    a, b = (torch.cat([part.double().flatten() for part in parts]) for parts in (ours, exact))
    operator = GridOperator(edges.detach())
    steps = [
        float(solve(operator, rhs, solver=solver, on_failure="ignore").stats.steps.double().mean())
        for rhs in (scores.detach(), slope)
    ]
    truth = solve(operator, scores.detach(), solver=Cholesky()).value
    edge_error = (ours[1].double() - exact[1]).norm() / exact[1].norm()
    return {
        "error": float((a - b).norm() / b.norm()),
        "cosine": float(a @ b / (a.norm() * b.norm())),
        "edges": float(edge_error),
        "forward_steps": steps[0],
        "adjoint_steps": steps[1],
        "forward_error": float((potentials - truth).abs().max()),
    }


def _gradients(
    scores: Tensor, edges: Tensor, solver: Solver, loss: Callable[[Tensor], Tensor]
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Gradients of scores and edges; the potentials; the gradient that enters the adjoint system."""
    inputs = [t.detach().clone().requires_grad_() for t in (scores, edges)]
    potentials = soft_cut(inputs[0], inputs[1], solver=solver, on_failure="ignore")
    gradients = torch.autograd.grad(loss(potentials), [*inputs, potentials])
    return gradients[:2], potentials.detach(), gradients[2]


class GradientWatch(Callback):
    """Note :func:`gradient_error` on one batch after every epoch.

    Parameters
    ----------
    images : Tensor
        (N, 3, H, W).
    target : Tensor
        (N, H, W).
    loss : Module
        Maps logits and target to a scalar.
    solver : Solver
        What the network under training solves with.
    path : Path
        A JSON file, rewritten whole after every epoch.

    Attributes
    ----------
    notes : list of dict
        One mapping an epoch; part of the checkpoint.
    """

    def __init__(self, images: Tensor, target: Tensor, loss: nn.Module, solver: Solver, path: Path) -> None:
        self.notes: list[dict[str, float]] = []
        self._images = images
        self._target = target
        self._loss = loss
        self._solver = solver
        self._path = path

    def state_dict(self) -> dict[str, Any]:
        """Notes so far."""
        return {"notes": [dict(note) for note in self.notes]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Notes of a checkpoint."""
        self.notes = [dict(note) for note in state_dict["notes"]]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the network as it is now, in evaluation mode so that looking changes nothing."""
        network: Any = pl_module.network
        training = network.training
        network.eval()
        with torch.no_grad():
            parts = network.forward_parts(self._images)
        network.train(training)
        with torch.enable_grad():
            self.notes.append(
                gradient_error(
                    parts["scores"], parts["edges"], self._solver, lambda x: self._loss(x, self._target)
                )
            )
        write_text(self._path, json.dumps(self.notes) + "\n")
