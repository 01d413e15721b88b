"""A cut head by dense linear algebra: (I + L) x = s, written down entry by entry."""

import torch
from torch import Tensor, nn


class DenseCut(nn.Module):
    """SoftCut of 2-D pictures for tests: the matrix is built whole and solved by LU."""

    def forward(self, scores: Tensor, edges: Tensor) -> Tensor:
        n, _, h, w = scores.shape
        pixels = torch.arange(h * w).view(h, w)
        matrix = torch.eye(h * w, dtype=scores.dtype).repeat(n, 1, 1)
        ties = (
            (pixels[:-1], pixels[1:], edges[:, 0, :-1]),
            (pixels[:, :-1], pixels[:, 1:], edges[:, 1, :, :-1]),
        )
        for i, j, weight in ties:
            step = torch.zeros(i.numel(), h * w, dtype=scores.dtype)
            step[torch.arange(i.numel()), i.flatten()] = 1
            step[torch.arange(i.numel()), j.flatten()] = -1
            matrix = matrix + step.T @ (weight.flatten(1).unsqueeze(2) * step)
        return torch.linalg.solve(matrix, scores.flatten(2).mT).mT.view_as(scores)
