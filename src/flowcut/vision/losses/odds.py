"""How much likelier a class is than all others together, without losing digits."""

from __future__ import annotations

import torch
from torch import Tensor


def log_odds(logits: Tensor) -> Tensor:
    r"""log p_c / (1 - p_c) of the softmax p over axis 1, for every class c.

    p_c / (1 - p_c) = exp(l_c) / sum_{k != c} exp(l_k). With L = logsumexp(l) this is
    log p_c - log(1 - p_c), log p_c = l_c - L. At most one class has p_c > 1/2, the one of
    the largest logit; for the others log(1 - p_c) = log1p(-p_c) is exact, and for that one
    log(1 - p_c) = logsumexp_{k != c} l_k - L, where 1 - p_c itself would have lost its digits.

    Parameters
    ----------
    logits
        (N, C, *spatial) floating point, C >= 2.

    Returns
    -------
    Tensor
        (N, C, *spatial).

    Examples
    --------
    >>> log_odds(torch.tensor([[300.0, 0.0]]))
    tensor([[ 300., -300.]])
    """
    top = logits.argmax(dim=1, keepdim=True)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter(1, top, True)
    log_p = logits.log_softmax(dim=1)
    # The largest is replaced before log1p: its slope at 1 would be infinite.
    of_others = torch.log1p(-torch.where(is_top, 0, log_p.exp()))
    of_top = log_p.masked_fill(is_top, -torch.inf).logsumexp(dim=1, keepdim=True)
    return log_p - torch.where(is_top, of_top, of_others)
