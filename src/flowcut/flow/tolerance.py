"""Whether the Krylov spaces of a linear flow were large enough."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from flowcut.core.results import NotConvergedError
from flowcut.core.warnings import FlowcutWarning


def report_tolerance(error: Tensor, value: Tensor, tolerance: float, on_failure: str) -> None:
    """Warn, raise or stay silent about items whose estimated error is too large; eagerly only.

    Parameters
    ----------
    error
        (N,): estimated norms of the error.
    value
        (N, J, *spatial).

    Raises
    ------
    NotConvergedError
        ``on_failure`` is "raise" and one item is not accurate.
    """
    if on_failure == "ignore" or torch.compiler.is_compiling():
        return
    relative = error / value.detach().double().flatten(1).norm(dim=1).clamp_min(torch.finfo().tiny)
    # Written so that NaN fails.
    failed = (~(relative <= tolerance)).nonzero()
    if not len(failed):
        return
    item = int(failed[0])
    text = (
        f"{len(failed)} of {len(relative)} linear flows: tolerance {tolerance:g} was not met within "
        f"krylov_dim: raise krylov_dim or steps, or lower time (item {item}: estimated relative error "
        f"{float(relative[item]):.1e})"
    )
    if on_failure == "raise":
        raise NotConvergedError(text)
    warnings.warn(text, FlowcutWarning, stacklevel=2)
