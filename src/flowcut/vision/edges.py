"""Edges from the contrast of a picture: strong where neighbours look alike, weak where they differ."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flowcut.core.checks import check_floating
from flowcut.core.neighborhood import Neighborhood, source_slices, target_slices
from flowcut.core.ties import Index

__all__ = ["ContrastEdges"]

_SCALARS = ("strength", "beta", "floor")


class ContrastEdges(nn.Module):
    r"""Edges w = strength exp(-beta \|I_i - I_j\|^2 / l^2) + floor of a picture I.

    l is the length of the tie from pixel i to pixel j in units of ``neighborhood.spacing``, so that pixels
    twice as far apart may differ twice as much. Without learning, this is what graph cuts and random walkers
    are given (Boykov and Jolly, ICCV 2001; Grady, IEEE TPAMI 28(11), 2006). The three scalars are learned as
    their logarithms, which keeps them positive.

    Parameters
    ----------
    neighborhood
        Which pixels are tied, of any number of axes.
    strength
        Of the tie between equal pixels, > 0, beside ``floor``. At 10 a SoftCut with confidence 1 averages
        over some three pixels in every direction.
    beta
        Contrast, > 0. The default is 1 / (2 * 0.05^2), for pictures in [0, 1]: the tie falls to 0.61 of its
        strength where neighbours differ by 0.05, and to 0.14 where they differ by 0.1.
    floor
        Least tie, > 0.
    relative
        True: squared differences over l^2 are divided by their mean over the ties of the picture, so that
        the unit of the picture does not matter; then beta = 0.5 is GrabCut's choice (Rother, Kolmogorov
        and Blake, SIGGRAPH 2004).

    Attributes
    ----------
    positive
        True: the output is strengths >= 0, not raw values to be read by :mod:`flowcut.vision.ties`.

    Raises
    ------
    ValueError
        A number is not finite and > 0.

    Examples
    --------
    >>> edges = ContrastEdges(strength=2.0, beta=math.log(2), floor=0.5)
    >>> edges(torch.tensor([[[[0.0, 0.0, 1.0]]]]))[0, 1].detach().tolist()  # ties to the right
    [[2.5, 1.5, 0.0]]
    """

    positive = True

    def __init__(
        self,
        neighborhood: Neighborhood | None = None,
        strength: float = 10.0,
        beta: float = 200.0,
        floor: float = 0.01,
        relative: bool = False,
    ) -> None:
        super().__init__()
        for name, value in zip(_SCALARS, (strength, beta, floor), strict=True):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a finite number > 0, got {value}")
            self.register_parameter(f"log_{name}", nn.Parameter(torch.tensor(math.log(value))))
        self.neighborhood = neighborhood or Neighborhood.edges(2)
        # Taken here, for torch.compile cannot trace a cached property.
        self._lengths = self.neighborhood.lengths
        self.relative = relative

    def scalars(self) -> dict[str, float]:
        """``strength``, ``beta`` and ``floor`` as they are now.

        Examples
        --------
        >>> round(ContrastEdges().scalars()["beta"], 3)
        200.0
        """
        return {name: float(getattr(self, f"log_{name}").detach().exp()) for name in _SCALARS}

    def forward(self, images: Tensor) -> Tensor:
        """Edges of a batch of pictures.

        Parameters
        ----------
        images
            (N, channels, *spatial), floating point, any number of channels; half types are computed in
            float32.

        Returns
        -------
        Tensor
            (N, K, *spatial), >= ``floor``; 0 where the neighbour lies outside the picture.

        Raises
        ------
        TypeError
            ``images`` is not floating point.
        ValueError
            It has another number of axes than the neighborhood.
        """
        check_floating("images", images)
        if images.ndim - 2 != self.neighborhood.ndim:
            raise ValueError(
                f"images: expected (N, channels, *spatial) with {self.neighborhood.ndim} spatial axes as in "
                f"neighborhood, got {tuple(images.shape)}"
            )
        if images.dtype in (torch.float16, torch.bfloat16):
            images = images.float()
        squares = self._squares(images)
        strength, beta, floor = (getattr(self, f"log_{name}").to(images.dtype).exp() for name in _SCALARS)
        inside = self.neighborhood.inside(tuple(images.shape[2:]), images.device)
        return torch.where(inside, strength * torch.exp(-beta * squares) + floor, 0)

    def _squares(self, images: Tensor) -> Tensor:
        r"""(N, K, *spatial): \|I_i - I_j\|^2 / l^2, 0 where there is no pixel j."""
        spatial = tuple(images.shape[2:])
        squares = images.new_zeros((len(images), len(self.neighborhood), *spatial))
        ties = zip(self.neighborhood.offsets, self._lengths, strict=True)
        for k, (offset, length) in enumerate(ties):
            here: Index = (..., *source_slices(offset, spatial))
            there: Index = (..., *target_slices(offset, spatial))
            difference = images[here] - images[there]
            # The tie of a pixel to itself, in the windows of flows, has length 0 and no difference.
            squares[:, k][here] = difference.square().sum(dim=1) / (length or 1.0) ** 2
        if not self.relative:
            return squares
        ties_of_picture = self.neighborhood.inside(spatial, images.device).sum().clamp(min=1)
        mean = squares.flatten(1).sum(dim=1) / ties_of_picture
        # A picture of one colour has no contrast whatever it is divided by.
        return squares / torch.where(mean > 0, mean, 1).reshape(-1, *(1,) * (images.ndim - 1))

    def extra_repr(self) -> str:
        """The scalars and the number of ties, as ``print`` shows them."""
        numbers = ", ".join(f"{name}={value:.4g}" for name, value in self.scalars().items())
        return f"{numbers}, relative={self.relative}, ties={len(self.neighborhood)}"
