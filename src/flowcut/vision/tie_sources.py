"""Where a head on a foreign network gets its raw ties from: the picture, or the network's own features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FeatureTies", "PictureTies"]

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_INTERPOLATIONS = {1: "linear", 2: "bilinear", 3: "trilinear"}


class PictureTies(nn.Module):
    """Raw ties from the picture alone, by three small convolutions.

    Parameters
    ----------
    in_channels
        Of the picture, >= 1.
    channels
        Ties of a pixel, >= 1.
    width
        Channels between the convolutions, >= 1.
    ndim
        Number of spatial axes, 1 to 3.

    Raises
    ------
    ValueError
        A number is out of its range.

    Examples
    --------
    >>> PictureTies(3, channels=2)(torch.rand(1, 3, 8, 9)).shape
    torch.Size([1, 2, 8, 9])
    """

    def __init__(self, in_channels: int, channels: int, width: int = 16, ndim: int = 2) -> None:
        super().__init__()
        for name, number in (("in_channels", in_channels), ("channels", channels), ("width", width)):
            if number < 1:
                raise ValueError(f"{name}: expected 1 or more, got {number}")
        make = _convolution(ndim)
        self.in_channels = in_channels
        self.layers = nn.Sequential(
            make(in_channels, width, 3, padding="same"),
            nn.ReLU(),
            make(width, width, 3, padding="same"),
            nn.ReLU(),
            make(width, channels, 3, padding="same"),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_channels, *spatial) -> (N, channels, *spatial).

        Raises
        ------
        ValueError
            ``images`` has another number of channels.
        """
        if images.ndim < 3 or images.shape[1] != self.in_channels:
            raise ValueError(
                f"images: expected (N, {self.in_channels}, *spatial) for the edges' convolution, "
                f"got {tuple(images.shape)}; pass in_channels="
            )
        raw: Tensor = self.layers(images)
        return raw


class _Tap:
    """A forward hook that keeps the latest output until it is taken."""

    def __init__(self) -> None:
        self.value: Any = None

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.value = output

    def take(self) -> Any:
        value, self.value = self.value, None
        return value


class FeatureTies(nn.Module):
    """Raw ties from features, by one convolution with kernel 1, brought to the picture's size.

    Such a convolution and linear interpolation may change places, so it runs on the small features.

    Parameters
    ----------
    network
        The one whose features are meant; it is called before this.
    features
        The name of one of its submodules, whose output is taken by a forward hook, or what gives the
        features of a batch of pictures: ``features(images)``.
    in_channels
        Of the features, >= 1.
    channels
        Ties of a pixel, >= 1.
    ndim
        Number of spatial axes, 1 to 3.

    Raises
    ------
    ValueError
        There is no submodule of that name, or a number is out of its range.
    """

    def __init__(
        self,
        network: nn.Module,
        features: str | Callable[[Tensor], Tensor],
        in_channels: int,
        channels: int,
        ndim: int = 2,
    ) -> None:
        super().__init__()
        for name, number in (("feature_channels", in_channels), ("channels", channels)):
            if number < 1:
                raise ValueError(f"{name}: expected 1 or more, got {number}")
        self.tap, self.features = _Tap(), features
        if isinstance(features, str):
            modules = dict(network.named_modules())
            if not features or features not in modules:
                raise ValueError(f"features: expected a submodule of the network, got {features!r}")
            modules[features].register_forward_hook(self.tap)
        self.in_channels = in_channels
        self.layer = _convolution(ndim)(in_channels, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, any, *spatial) -> (N, channels, *spatial), after the network has seen these pictures.

        Raises
        ------
        ValueError
            The features are no tensor (N, in_channels, *any) of as many axes as the pictures.
        """
        found = self.tap.take() if isinstance(self.features, str) else self.features(images)
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if not isinstance(found, Tensor) or found.ndim != images.ndim or found.shape[1] != self.in_channels:
            raise ValueError(
                f"features: expected (N, {self.in_channels}, *spatial) with {images.ndim - 2} spatial axes, "
                f"got {shape}; pass feature_channels="
            )
        raw: Tensor = self.layer(found)
        spatial = tuple(images.shape[2:])
        if tuple(raw.shape[2:]) == spatial:
            return raw
        return F.interpolate(raw, spatial, mode=_INTERPOLATIONS[len(spatial)])


def _convolution(ndim: int) -> type[Any]:
    if ndim not in _CONVOLUTIONS:
        raise ValueError(f"ndim: expected 1 to 3 spatial axes, got {ndim}")
    return _CONVOLUTIONS[ndim]
