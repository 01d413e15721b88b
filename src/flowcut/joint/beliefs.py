"""What both exact methods find out: how likely every label is, alone and with its neighbour's."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Beliefs(NamedTuple):
    """Marginals over the nodes and ties of a flat energy.

    Attributes
    ----------
    nodes
        (n, J).
    pairs
        (E, J, J): of both ends of every tie.
    """

    nodes: Tensor
    pairs: Tensor
