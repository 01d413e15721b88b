"""Pictures and masks brought to another size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Size = int | tuple[int, int]


def resize_image(image: Tensor, size: Size) -> Tensor:
    """Resize a picture by antialiased bilinear interpolation.

    Parameters
    ----------
    image
        (3, H, W) float.
    size
        (height, width), or one number for a square, >= 1.

    Returns
    -------
    Tensor
        (3, height, width), in the range of the input.
    """
    return F.interpolate(image[None], check_size(size), mode="bilinear", antialias=True)[0]


def resize_mask(mask: Tensor, size: Size) -> Tensor:
    """Resize a mask by the majority of the area that falls into each new pixel.

    Void counts as a label of its own. On a tie the smaller label wins; a value that is not
    in the mask never comes out.

    Parameters
    ----------
    mask
        (H, W) int64.
    size
        (height, width), or one number for a square, >= 1.

    Returns
    -------
    Tensor
        (height, width) int64.

    Examples
    --------
    >>> resize_mask(torch.tensor([[0, 1, 1, 1], [0, 0, 1, 255]]), (1, 2))
    tensor([[0, 1]])
    """
    size = check_size(size)
    if tuple(mask.shape) == size:
        return mask.clone()
    best, result = torch.full(size, -1.0), torch.zeros(size, dtype=torch.int64)
    for label in torch.unique(mask).tolist():
        share = F.interpolate((mask == label).float()[None, None], size, mode="area")[0, 0]
        result = torch.where(share > best, label, result)
        best = torch.maximum(best, share)
    return result


def check_size(size: Size) -> tuple[int, int]:
    """Read a size as (height, width).

    Raises
    ------
    ValueError
        It is neither one nor two whole numbers >= 1.
    """
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(n, int) and n >= 1 for n in pair):
        raise ValueError(f"size: expected (height, width) or one number, each >= 1, got {size!r}")
    return pair[0], pair[1]
