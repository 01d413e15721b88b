r"""Normal vectors whose covariance has few parameters, many samples at once.

    x = mean_c + F_c z + noise,      z ~ N(0, I_r) shared with other vectors of the same sample,

where c is the sample's component of a mixture. Covariances: "diagonal" (r = 0), "low-rank"
(F F^T + diagonal), "full" (F F^T + L L^T with a lower-triangular L).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Covariance = Literal["diagonal", "low-rank", "full"]
COVARIANCES = ("diagonal", "low-rank", "full")


class NormalVectors(nn.Module):
    """D numbers of every sample, samples last: (D, M).

    Parameters
    ----------
    size
        D.
    rank
        r: columns of F, how many factors a sample has.
    components
        Components of the mixture, each with a mean and factors of its own.
    covariance
        What the noise is: "diagonal" and "low-rank" have a standard deviation for each number, "full" a
        lower-triangular matrix.
    mean, spread, noise
        Initial values: of every mean, standard deviation of the means about it and of F z, and of the noise.
    generator
        Draws the initial means and factors.
    """

    def __init__(
        self,
        size: int,
        rank: int,
        components: int,
        covariance: Covariance,
        mean: float,
        mean_spread: float,
        spread: float,
        noise: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        rank = 0 if covariance == "diagonal" else rank
        means = mean + mean_spread * torch.randn(size, components, generator=generator)
        factors = torch.randn(size, components * rank, generator=generator) * spread / math.sqrt(max(rank, 1))
        self.mean = nn.Parameter(means)
        self.factors = nn.Parameter(factors)
        scale = torch.eye(size) * noise if covariance == "full" else torch.full((size, 1), math.log(noise))
        self.scale = nn.Parameter(scale)
        self.rank = rank
        self.covariance = covariance

    def forward(self, factors: Tensor, component: Tensor, generator: torch.Generator) -> Tensor:
        """Draw (D, M).

        Parameters
        ----------
        factors
            (r or more, M): z; the first ``rank`` rows are used.
        component
            (M,) int64.
        generator
            Draws the noise; on the CPU, so that a seed means the same everywhere.
        """
        size, components = self.mean.shape
        samples = len(component)
        chosen = nn.functional.one_hot(component, components).T.to(self.mean.dtype)
        # Factors stand in the rows of their component and are zero elsewhere: one product for all.
        z = (chosen.unsqueeze(1) * factors[: self.rank]).reshape(components * self.rank, samples)
        x = self.mean @ chosen + self.factors @ z
        noise = torch.randn(size, samples, generator=generator, dtype=x.dtype).to(x.device)
        if self.covariance == "full":
            return x + self.scale.tril() @ noise
        return x + self.scale.exp() * noise

    def extra_repr(self) -> str:
        """What it is made of."""
        size, components = self.mean.shape
        return f"size={size}, rank={self.rank}, components={components}, covariance={self.covariance!r}"
