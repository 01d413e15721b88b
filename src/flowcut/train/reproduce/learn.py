"""Learning inside an experiment: kept when it is done, continued when it was interrupted."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from flowcut.core.atomic import atomic_write
from flowcut.core.neighborhood import Graph
from flowcut.flow.angle import angle_loss
from flowcut.flow.descent import RiemannianDescent
from flowcut.flow.learning import learn_weights
from flowcut.flow.linear import Gradient, linear_assignment_flow
from flowcut.flow.rounding import round_assignment
from flowcut.flow.weight_fit import WeightFit
from flowcut.flow.weights import uniform_weights
from flowcut.train.reproduce.experiment import Learning, Workspace

__all__ = ["curve", "first_below", "learn", "uniform_labels", "warm_up"]

_EVERY = 10
# A Krylov space in which the flow is exact for all that a loss in four digits shows.
_EXACT = 20


def learn(
    distances: Tensor,
    target: Tensor,
    settings: Learning,
    workspace: Workspace,
    name: str,
    window: int = 5,
    gradient: Gradient = "convolution",
    graph: Graph | None = None,
) -> WeightFit:
    """Learn weights, or read them where an earlier run of the same experiment has learned them.

    Parameters
    ----------
    distances : Tensor
        (1, J, *spatial).
    target : Tensor
        (1, *spatial) int64.
    settings : Learning
    workspace : Workspace
    name : str
        Unique in the experiment.
    window : int
        Odd side of the window; of no account on a graph.
    gradient : str
        As in :func:`flowcut.learn_weights`.
    graph : Graph, optional

    Returns
    -------
    WeightFit
    """
    done, half = workspace.folder / f"{name}.fit.pt", workspace.folder / f"{name}.part.pt"
    if done.exists():
        return WeightFit.load(done, graph)
    workspace.say(f"learning: {name}")
    warm_up(distances, target, settings, window, gradient, graph)
    fit = learn_weights(
        distances,
        target,
        window=window,
        rho=settings.rho,
        time=settings.time,
        krylov_dim=settings.krylov_dim,
        rank=settings.rank,
        gradient=gradient,
        descent=RiemannianDescent(settings.step),
        steps=settings.steps,
        stop_below=settings.stop_below,
        checkpoint=half,
        checkpoint_every=_EVERY,
        neighborhood=graph,
    )
    fit.save(done)
    half.unlink(missing_ok=True)
    return fit


def curve(
    distances: Tensor,
    target: Tensor,
    settings: Learning,
    workspace: Workspace,
    name: str,
    window: int = 5,
    gradient: Gradient = "convolution",
) -> dict[str, Any]:
    """The way down of a learning whose weights are not needed.

    Parameters
    ----------
    distances, target, settings, workspace, name, window, gradient
        As in :func:`learn`.

    Returns
    -------
    dict
        ``losses``, ``wrong`` and ``seconds`` after 0, 1, 2, ... steps, as the algorithm itself sees them;
        ``exact_loss`` of the flow without approximation at the last weights.
    """
    path = workspace.folder / f"{name}.json"
    if not path.exists():
        fit = learn(distances, target, settings, workspace, name, window, gradient)
        value = linear_assignment_flow(distances, fit.weights, settings.rho, settings.time, _EXACT)
        exact = float(angle_loss(value, target))
        found = {"losses": fit.losses, "wrong": fit.wrong, "seconds": fit.seconds, "exact_loss": exact}
        with atomic_write(path) as file:
            file.write(json.dumps(found).encode())
        (workspace.folder / f"{name}.fit.pt").unlink()
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def warm_up(
    distances: Tensor,
    target: Tensor,
    settings: Learning,
    window: int,
    gradient: Gradient = "convolution",
    graph: Graph | None = None,
) -> None:
    """Take one step on a corner, so that no compilation is timed.

    Parameters
    ----------
    distances, target, settings, window, gradient, graph
        As in :func:`learn`. A graph has no corner: it is taken whole.
    """
    if graph is None:
        for axis in range(1, target.ndim):
            distances, target = distances.narrow(axis + 1, 0, 16), target.narrow(axis, 0, 16)
    learn_weights(
        distances.contiguous(),
        target.contiguous(),
        window,
        settings.rho,
        settings.time,
        settings.krylov_dim,
        settings.rank,
        gradient=gradient,
        steps=1,
        neighborhood=graph,
    )


def uniform_labels(
    distances: Tensor, settings: Learning, window: int = 5, graph: Graph | None = None
) -> Tensor:
    """Labels of the flow before anything is learned.

    Parameters
    ----------
    distances, settings, window, graph
        As in :func:`learn`.

    Returns
    -------
    Tensor
        (1, *spatial) int64.

    Examples
    --------
    >>> uniform_labels(torch.tensor([[[0.0, 0.6, 0.0], [1.0, 0.5, 1.0]]]), Learning(), 3).tolist()
    [[0, 0, 0]]
    """
    weights = uniform_weights(tuple(distances.shape[2:]), window, graph)
    value = linear_assignment_flow(
        distances, weights, settings.rho, settings.time, settings.krylov_dim, neighborhood=graph
    )
    return round_assignment(value)


def first_below(fit: WeightFit, share: float) -> int | None:
    """After how many steps at most this share of the pixels is wrong.

    Parameters
    ----------
    fit : WeightFit
    share : float

    Returns
    -------
    int, optional
        None if never.

    Examples
    --------
    >>> one = torch.ones(1, 1, 1)
    >>> first_below(WeightFit(one, one, [1.0, 0.5], [0.4, 0.1], [0.0, 0.1], 1, False), 0.2)
    1
    """
    return next((step for step, wrong in enumerate(fit.wrong) if wrong <= share), None)
