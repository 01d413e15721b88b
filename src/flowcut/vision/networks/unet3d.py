"""A small U-Net for volumes that also says what ties neighbouring voxels."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowcut.vision.networks.headed import HeadedNetwork
from flowcut.vision.ties import SoftplusEdges, ties_of

__all__ = ["Unet3d"]

# Five levels, each half as fine as the one before.
_STRIDE = 16


class _Convolution(nn.Conv3d):
    """A 3-D convolution whose gradient may be trusted in bfloat16 on the CPU.

    There the gradient of the weights of a kernel of 3 reads memory that nobody wrote where the first axis
    has length 2 (seen in torch 2.15: NaN, or any number). That is at most one level of a U-Net and a small
    one, so that level is computed in single precision.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As ``nn.Conv3d``."""
        if input.shape[2] != 2 or input.device.type != "cpu":
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.to(self.weight.dtype))


class Unet3d(HeadedNetwork):
    """MONAI's ``BasicUNet`` for volumes, with channels for scores and, under a head, for its ties.

    One decoder gives both: scores and edges need the same borders. Edges are the softplus of their channels.
    Norms are taken over groups of channels, so that nothing depends on the other volumes of a batch.

    Parameters
    ----------
    in_channels
        Channels of the volume, >= 1.
    num_classes
        Channels of the scores: 1 for a sigmoid, C >= 2 for a softmax, background included.
    head
        A module called as ``head(scores, ties)`` that returns logits of the shape of the scores; for
        ``SoftCut()`` a voxel is tied to its 6 neighbours, by 3 edges. None: the scores are the logits.
    features
        Channels of the five levels from the finest to the coarsest, and of the last layer; multiples of
        ``groups``, at the coarsest level two or more of it: there a small volume is one voxel, and a norm
        needs more than one value.
    groups
        Of a norm, >= 1.

    Raises
    ------
    ValueError
        A number is out of its range.
    ImportError
        MONAI is not installed.

    Notes
    -----
    Sides that are no multiple of 16 are continued by their last voxels, and what comes out is cut back.

    Examples
    --------
    >>> from flowcut.cut.soft_cut import SoftCut
    >>> network = Unet3d(num_classes=3, head=SoftCut(), features=(4, 4, 4, 4, 8, 4)).eval()
    >>> parts = network.forward_parts(torch.rand(1, 1, 20, 16, 10))
    >>> {name: tuple(part.shape) for name, part in parts.items()}
    {'scores': (1, 3, 20, 16, 10), 'edges': (1, 3, 20, 16, 10), 'logits': (1, 3, 20, 16, 10)}
    """

    ndim = 3

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        head: nn.Module | None = None,
        features: Sequence[int] = (8, 16, 32, 64, 64, 8),
        groups: int = 4,
    ) -> None:
        super().__init__(in_channels, num_classes, head, ties_of(head, default=SoftplusEdges, ndim=3))
        widths = tuple(features)
        if groups < 1:
            raise ValueError(f"groups: expected 1 or more, got {groups}")
        if len(widths) != 6 or min(widths) < 1 or any(width % groups for width in widths):
            raise ValueError(f"features: expected 6 multiples of groups={groups}, got {widths}")
        if widths[4] < 2 * groups:
            raise ValueError(
                f"features: expected {2 * groups} or more at the coarsest level, got {widths[4]}"
            )
        # Importing MONAI takes seconds, which only those who make this network should wait.
        try:
            monai = importlib.import_module("monai.networks.nets.basic_unet")
        except ModuleNotFoundError as error:
            raise ImportError(f"Unet3d needs {error.name}: pip install 'flowcut[volumes]'") from error
        channels = num_classes + (0 if head is None else self.ties.channels)
        norm = ("group", {"num_groups": groups})
        self.unet = monai.BasicUNet(3, in_channels, channels, features=widths, norm=norm)
        for module in self.unet.modules():
            if type(module) is nn.Conv3d:
                module.__class__ = _Convolution  # MONAI has no place to say which convolution it shall use

    def raw_parts(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and raw ties, see :meth:`flowcut.vision.networks.headed.HeadedNetwork.raw_parts`."""
        depth, height, width = images.shape[2:]
        pads = [n for side in (width, height, depth) for n in (0, -side % _STRIDE)]
        padded = F.pad(images, pads, mode="replicate") if any(pads) else images
        both = self.unet(padded)[..., :depth, :height, :width]
        if self.head is None:
            return both, None
        return both[:, : self.num_classes], both[:, self.num_classes :]
