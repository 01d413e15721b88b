"""The U-Net of the SoftCut thesis with a second decoder for the ties between pixels."""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationHead, initialization
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from flowcut.vision.networks.headed import HeadedNetwork
from flowcut.vision.ties import SoftplusEdges, ties_of

__all__ = ["TwoHeadUnet"]

_LEVELS = 5


class TwoHeadUnet(HeadedNetwork):
    """One encoder, one decoder for the scores, and under a head one for its ties.

    Fig. 14 of the SoftCut thesis. The decoder of the edges gives the tie of a pixel to the one below; read
    on the transposed features it gives, transposed back, the tie to the one on the right, for which way a
    picture is turned should not matter. Edges are the softplus of its output. Heads that take other ties than
    these two (windows of a flow, diagonals) get all their channels from one pass.

    Parameters
    ----------
    encoder
        Any encoder of segmentation-models-pytorch, for example "resnet18" or "resnet34".
    in_channels
        Channels of the picture, >= 1; 4 with a click, see
        :class:`flowcut.vision.data.ClickedObjects`.
    num_classes
        Channels of the scores: 1 for a sigmoid, C >= 2 for a softmax, background included.
    head
        A module called as ``head(scores, ties)`` with scores (N, num_classes, H, W) that returns logits of
        their shape, for example ``SoftCut()``. None: a plain U-Net.
    decoder_channels
        Channels of the five levels of either decoder, from the coarsest to the finest.
    encoder_weights
        None: untrained. A name as segmentation-models-pytorch has them, for example "imagenet": downloaded.
        Pictures are then brought to the mean and deviation of those it was learned on, which are part of
        the network's state.

    Raises
    ------
    ValueError
        The encoder is not known, or a number is out of its range.

    Notes
    -----
    Pictures whose sides are no multiple of 32 are continued at the lower and right border by their last
    row and column, and what comes out is cut back.

    Examples
    --------
    >>> from flowcut.cut.soft_cut import SoftCut
    >>> network = TwoHeadUnet("resnet18", head=SoftCut(), decoder_channels=(32, 16, 16, 8, 8)).eval()
    >>> parts = network.forward_parts(torch.rand(1, 3, 40, 50))
    >>> {name: tuple(part.shape) for name, part in parts.items()}
    {'scores': (1, 1, 40, 50), 'edges': (1, 2, 40, 50), 'logits': (1, 1, 40, 50)}
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        encoder: str = "resnet18",
        in_channels: int = 3,
        num_classes: int = 1,
        head: nn.Module | None = None,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, head, ties_of(head, default=SoftplusEdges))
        widths = tuple(decoder_channels)
        if len(widths) != _LEVELS or min(widths) < 1:
            raise ValueError(f"decoder_channels: expected {_LEVELS} numbers >= 1, got {widths}")
        if encoder not in smp.encoders.get_encoder_names() and not encoder.startswith("tu-"):
            raise ValueError(f"encoder: expected one of segmentation-models-pytorch, got {encoder!r}")
        self.encoder = get_encoder(encoder, in_channels=in_channels, depth=_LEVELS, weights=encoder_weights)
        mean, deviation = _statistics(encoder, encoder_weights, in_channels)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.score_decoder = _decoder(self.encoder.out_channels, widths, encoder)
        self.score_head = SegmentationHead(widths[-1], num_classes, kernel_size=3)
        self.edge_decoder, self.edge_head = None, None
        # One map for both axes where the ties are those two.
        self.shares_axes = self.ties.name == "edges" and self.ties.channels == 2
        if head is not None:
            self.edge_decoder = _decoder(self.encoder.out_channels, widths, encoder)
            channels = 1 if self.shares_axes else self.ties.channels
            self.edge_head = SegmentationHead(widths[-1], channels, kernel_size=3)
        for part in (self.score_decoder, self.edge_decoder):
            if part is not None:
                initialization.initialize_decoder(part)
        for part in (self.score_head, self.edge_head):
            if part is not None:
                initialization.initialize_head(part)

    def raw_parts(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores and raw ties, see :meth:`flowcut.vision.networks.headed.HeadedNetwork.raw_parts`."""
        height, width = images.shape[2:]
        features = self.encoder(self._padded((images - self.mean) / self.deviation))
        scores = self.score_head(self.score_decoder(features))[..., :height, :width]
        if self.edge_decoder is None or self.edge_head is None:
            return scores, None
        raw = self.edge_head(self.edge_decoder(features))
        if self.shares_axes:
            turned = [feature.transpose(2, 3) for feature in features]
            right = self.edge_head(self.edge_decoder(turned)).transpose(2, 3)
            raw = torch.cat([raw, right], dim=1)
        return scores, raw[..., :height, :width]

    def _padded(self, images: Tensor) -> Tensor:
        stride = self.encoder.output_stride
        down, right = (-n % stride for n in images.shape[2:])
        if not down and not right:
            return images
        return F.pad(images, (0, right, 0, down), mode="replicate")


def _statistics(encoder: str, weights: str | None, in_channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation (1, in_channels, 1, 1) of what the weights were learned on; else 0 and 1."""
    mean, deviation = torch.zeros(1, in_channels, 1, 1), torch.ones(1, in_channels, 1, 1)
    if weights is not None:
        known = smp.encoders.get_preprocessing_params(encoder, weights)
        # Channels beyond colour, as a click, stay as they are.
        colours = min(3, in_channels)
        mean[0, :colours, 0, 0] = torch.tensor(known["mean"][:colours])
        deviation[0, :colours, 0, 0] = torch.tensor(known["std"][:colours])
    return mean, deviation


def _decoder(encoder_channels: Sequence[int], widths: tuple[int, ...], encoder: str) -> nn.Module:
    decoder: nn.Module = UnetDecoder(
        encoder_channels=encoder_channels,
        decoder_channels=widths,
        n_blocks=_LEVELS,
        use_norm="batchnorm",
        add_center_block=encoder.startswith("vgg"),
    )
    return decoder
