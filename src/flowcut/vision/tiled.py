"""Networks applied tile by tile, so that a picture of any size fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from flowcut.vision.evaluating import device_of, evaluating
from flowcut.vision.networks.headed import Headed, full_precision
from flowcut.vision.tiles import Combine, Padding, TileGrid, Window, check_combine, untile

__all__ = ["Recombine", "TiledNetwork", "predict_tiled"]

Recombine = Literal["discard", "weighted", "joint"]


class TiledNetwork(nn.Module):
    """A network that sees a picture in tiles.

    Parameters
    ----------
    network
        Gives logits (N, C, *spatial) for pictures (N, in, *spatial).
    tile, overlap, combine, window, padding
        As in :func:`predict_tiled`.

    Raises
    ------
    ValueError
        An argument is none of those named, or the network has no head to solve jointly.

    Examples
    --------
    >>> from flowcut.vision.networks import BasicCnn
    >>> TiledNetwork(BasicCnn(width=4).eval(), tile=16, overlap=8)(torch.rand(2, 3, 50, 20)).shape
    torch.Size([2, 1, 50, 20])
    """

    def __init__(
        self,
        network: nn.Module,
        tile: int | tuple[int, ...] = 256,
        overlap: int = 32,
        combine: Recombine = "discard",
        window: Window = "linear",
        padding: Padding | None = None,
    ) -> None:
        super().__init__()
        check_combine(combine, get_args(Recombine), window)
        if combine == "joint" and not isinstance(network, Headed):
            raise ValueError(
                "combine: expected a network of scores, ties and a head for 'joint' "
                f"(see flowcut.with_head), got {type(network).__name__}"
            )
        sizes = (tile,) if isinstance(tile, int) else tuple(tile)
        if not sizes or min(sizes) < 1:
            raise ValueError(f"tile: expected one number >= 1 or one for each axis, got {tile}")
        if overlap < 0:
            raise ValueError(f"overlap: expected 0 or more, got {overlap}")
        self.network = network
        self.tile, self.overlap, self.padding = tile, overlap, padding
        self.combine, self.window = combine, window

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C, *spatial), on the device of the pictures, of pictures (N, in, *spatial)."""
        return torch.stack([self._whole(image) for image in images])

    def _whole(self, image: Tensor) -> Tensor:
        grid = TileGrid(tuple(image.shape[1:]), self.tile, self.overlap, self.padding)
        if self.combine == "joint" and isinstance(self.network, Headed):
            return self._joint(self.network, image, grid)
        mode: Combine = "weighted" if self.combine == "weighted" else "discard"
        return self._recombined(self.network, image, grid, mode)

    def _recombined(
        self, read: Callable[[Tensor], Tensor], image: Tensor, grid: TileGrid, combine: Combine
    ) -> Tensor:
        device = device_of(self.network)
        seen = (read(grid.cut(image, k)[None].to(device))[0].to(image.device) for k in range(len(grid)))
        return untile(seen, grid, combine, self.window)

    def _joint(self, network: Headed, image: Tensor, grid: TileGrid) -> Tensor:
        """Scores and ties tile by tile, then one solve on the whole picture, which knows no seam."""
        if network.head is None:
            return self._recombined(self.network, image, grid, "discard")

        def parts(piece: Tensor) -> Tensor:
            scores, raw = network.raw_parts(piece)
            return full_precision(torch.cat([scores, scores[:, :0] if raw is None else raw], dim=1))

        # Raw ties and not ties are put together: ties know where the picture ends, and tiles do not.
        whole = self._recombined(parts, image, grid, "discard")[None].to(device_of(self.network))
        classes = whole.shape[1] - network.ties.channels
        scores, raw = whole[:, :classes], whole[:, classes:]
        logits: Tensor = network.head(scores, network.ties.read(raw))
        return logits[0].to(image.device)


def predict_tiled(
    network: nn.Module,
    image: Tensor,
    tile: int | Sequence[int] = 256,
    overlap: int = 32,
    combine: Recombine = "discard",
    window: Window = "linear",
    padding: Padding | None = None,
) -> Tensor:
    """Logits of a picture, by a network that sees it in overlapping tiles.

    Parameters
    ----------
    network
        Gives logits (1, C, *spatial) for (1, in, *spatial); used in evaluation mode, without gradients.
        One that is local, with a receptive field of at most ``overlap`` pixels, gives with "discard" what
        it gives for the whole picture.
    image
        (in, *spatial). The tiles go to the network's device one at a time, and come back; what stays as
        large as the picture is the picture and its logits.
    tile, overlap
        Each tile is of ``tile + overlap`` pixels a side, as in the SoftCut thesis (256 + 32).
    combine
        "discard": logits, half of every overlap thrown away. "weighted": the mean of the logits of all
        tiles that hold a pixel, by ``window``. "joint", for a network with a head (one of
        :mod:`flowcut.vision.networks`, or of :func:`flowcut.with_head`): scores and raw ties as with
        "discard", then the head once, on the whole picture. A head carries evidence over any distance, so
        that with the other two every tile is solved without what lies beyond it, and seams can show.
    window
        With "weighted": "linear", "cosine" or "constant".
    padding
        None, "reflect" or "edge": how tiles continue a picture at its border, see
        :class:`flowcut.vision.tiles.TileGrid`.

    Returns
    -------
    Tensor
        (C, *spatial), on the device of ``image``.

    Raises
    ------
    ValueError
        An argument is out of its range, or "joint" is asked of a network without a head.

    Examples
    --------
    >>> from flowcut.cut.soft_cut import SoftCut
    >>> from flowcut.vision.networks import BasicCnn
    >>> network = BasicCnn(width=4, head=SoftCut())
    >>> predict_tiled(network, torch.rand(3, 50, 20), tile=16, overlap=16, combine="joint").shape
    torch.Size([1, 50, 20])
    """
    if image.ndim < 2:
        raise ValueError(f"image: expected (C, *spatial), got {tuple(image.shape)}")
    size = tile if isinstance(tile, int) else tuple(tile)
    tiled = TiledNetwork(network, size, overlap, combine, window, padding)
    with evaluating(tiled):
        result: Tensor = tiled(image[None])
    return result[0]
