"""What networks with a head share: scores and raw ties in, logits out, with the parts in between."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from flowcut.vision.ties import Ties

__all__ = ["Headed", "HeadedNetwork", "full_precision", "solve_parts"]


def full_precision(values: Tensor) -> Tensor:
    """Half types as float32: a linear system wants more than the eight bits of a bfloat16.

    Examples
    --------
    >>> full_precision(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


@runtime_checkable
class Headed(Protocol):
    """What can be taken apart into scores, raw ties and a head."""

    @property
    def head(self) -> Any:
        """Called as ``head(scores, ties)``, or None."""

    @property
    def ties(self) -> Ties:
        """How the head reads raw ties."""

    def raw_parts(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and raw ties."""


def solve_parts(network: Headed, images: Tensor) -> dict[str, Tensor]:
    """What ``forward_parts`` of a network with a head gives: scores, ties, and logits made of both.

    Without a head, or raw ties for it, the scores are the logits.

    Examples
    --------
    >>> from flowcut.vision.networks import BasicCnn
    >>> sorted(solve_parts(BasicCnn(width=4), torch.rand(1, 3, 5, 5)))
    ['logits', 'scores']
    """
    scores, raw = network.raw_parts(images)
    if network.head is None or raw is None:
        return {"scores": scores, "logits": scores}
    scores, raw = full_precision(scores), full_precision(raw)
    ties = network.ties.read(raw)
    return {"scores": scores, network.ties.name: ties, "logits": network.head(scores, ties)}


class HeadedNetwork(nn.Module):
    """A network that scores pixels and, under a head, says what ties them.

    A subclass writes :meth:`raw_parts`.

    Parameters
    ----------
    in_channels
        Channels of the picture, >= 1.
    num_classes
        Channels of the scores: 1 for a sigmoid, C >= 2 for a softmax.
    head
        A module called as ``head(scores, ties)`` that returns logits of the shape of the scores. None: the
        scores are the logits.
    ties
        How the head reads the raw ties, see :func:`flowcut.vision.ties.ties_of`.

    Raises
    ------
    ValueError
        A number is below 1.

    Attributes
    ----------
    ndim
        Number of spatial axes of its pictures.
    """

    ndim = 2

    def __init__(self, in_channels: int, num_classes: int, head: nn.Module | None, ties: Ties) -> None:
        super().__init__()
        for name, number in (("in_channels", in_channels), ("num_classes", num_classes)):
            if number < 1:
                raise ValueError(f"{name}: expected 1 or more, got {number}")
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.head = head
        self.ties = ties

    @abstractmethod
    def raw_parts(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and raw ties of a batch.

        Parameters
        ----------
        images
            (N, in_channels, *spatial), ``ndim`` spatial axes.

        Returns
        -------
        scores : Tensor
            (N, num_classes, *spatial).
        raw : Tensor or None
            (N, ties.channels, *spatial), any finite numbers; None without a head.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel.

        Parameters
        ----------
        images
            (N, in_channels, *spatial), pictures in [0, 1].

        Returns
        -------
        Tensor
            (N, num_classes, *spatial).

        Raises
        ------
        ValueError
            ``images`` is not of that shape.
        """
        return self.forward_parts(images)["logits"]

    def forward_parts(self, images: Tensor) -> dict[str, Tensor]:
        """The logits and what they were made from, for pictures of the inside.

        Parameters
        ----------
        images
            (N, in_channels, *spatial), pictures in [0, 1].

        Returns
        -------
        dict of str to Tensor
            ``scores`` and ``logits`` (N, num_classes, *spatial), and with a head its ties under
            their name: ``edges`` (N, ties.channels, *spatial), in the plane the tie to the pixel below and
            to the pixel on the right, or ``weights`` (N, window**2, H, W).

        Raises
        ------
        ValueError
            ``images`` is not of that shape.
        """
        self.check_images(images)
        return solve_parts(self, images)

    def check_images(self, images: Tensor) -> None:
        """Refuse what is not (N, in_channels, *spatial) with ``ndim`` spatial axes.

        Raises
        ------
        ValueError
            ``images`` is not of that shape.
        """
        if images.ndim - 2 != self.ndim or images.shape[1] != self.in_channels:
            axes = "H, W" if self.ndim == 2 else "D, H, W"
            raise ValueError(f"images: expected (N, {self.in_channels}, {axes}), got {tuple(images.shape)}")
