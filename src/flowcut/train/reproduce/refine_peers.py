"""Conditional random fields of other libraries as modules that clean up logits; none of them is required."""

from __future__ import annotations

import importlib

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["DENSE", "FILTER", "DenseCrf", "FilterCrf", "installed"]

# Installed as crfseg and pydensecrf2.
FILTER, DENSE = "crfseg", "pydensecrf.densecrf"


class FilterCrf(nn.Module):
    """crfseg's CRF: mean field with one Gaussian kernel, which does not see the picture; trainable.

    Parameters
    ----------
    weight, height, width : float
        Of the kernel, and its standard deviations along the axes in pixels; its own defaults.
    """

    def __init__(self, weight: float = 1.0, height: float = 1.0, width: float = 1.0) -> None:
        super().__init__()
        make = importlib.import_module(FILTER).CRF
        self.crf = make(2, smoothness_weight=weight, smoothness_theta=(height, width))

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Logits of the approximate marginals."""
        refined: Tensor = self.crf(logits)
        return refined

    def scalars(self) -> dict[str, float]:
        """The arguments as they are now."""
        height, width = (1 / self.crf.inv_smoothness_theta.detach()).tolist()
        return {"weight": float(self.crf.smoothness_weight.detach()), "height": height, "width": width}


class DenseCrf(nn.Module):
    """The fully connected CRF of Krähenbühl and Koltun (NeurIPS 2011) by pydensecrf2, on the CPU.

    It has no gradient. Defaults are those of its own example.

    Parameters
    ----------
    smooth, appearance : float
        Weights of the two kernels.
    width, colour : float
        Of the appearance kernel, in pixels and in units of 8 bits.
    """

    def __init__(
        self, smooth: float = 3.0, appearance: float = 10.0, width: float = 80.0, colour: float = 13.0
    ) -> None:
        super().__init__()
        self.numbers = {"smooth": smooth, "appearance": appearance, "width": width, "colour": colour}

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Logits of the approximate marginals, picture by picture."""
        both = torch.cat([-logits / 2, logits / 2], dim=1) if logits.shape[1] == 1 else logits
        refined = torch.stack([self._one(one, picture) for one, picture in zip(both, image, strict=True)])
        return refined[:, 1:] - refined[:, :1] if logits.shape[1] == 1 else refined

    def _one(self, logits: Tensor, image: Tensor) -> Tensor:
        classes, height, width = logits.shape
        crf = importlib.import_module(DENSE).DenseCRF2D(width, height, classes)
        crf.setUnaryEnergy(np.ascontiguousarray(-logits.log_softmax(dim=0).flatten(1).float().numpy()))
        pixels = (image * 255).round().clamp(0, 255).to(torch.uint8).movedim(0, -1)
        n = self.numbers
        crf.addPairwiseGaussian(sxy=3, compat=n["smooth"])
        crf.addPairwiseBilateral(
            sxy=n["width"],
            srgb=n["colour"],
            rgbim=np.ascontiguousarray(pixels.numpy()),
            compat=n["appearance"],
        )
        marginals = torch.from_numpy(np.array(crf.inference(5), dtype=np.float32))
        return marginals.clamp(min=1e-12).log().reshape(logits.shape)

    def scalars(self) -> dict[str, float]:
        """The numbers by name."""
        return dict(self.numbers)


def installed(name: str) -> bool:
    """Whether a module can be imported.

    Parameters
    ----------
    name : str

    Returns
    -------
    bool

    Examples
    --------
    >>> installed("torch"), installed("no_such_crf")
    (True, False)
    """
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
