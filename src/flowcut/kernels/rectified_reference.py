r"""Reference of the S-flow with rectified symmetric couplings (RAF (2), Theorem 1).

Omega_ij = Omega_ji = max(X_e, 0) for the pairs e = ij of a graph, Omega_ii = max(X_ii, 0) + epsilon.
Samples come last, so that each tie and each pixel of many samples is one contiguous row:

    logits (C, n, M)    for C >= 2 labels S = softmax(v), dv/dt = Omega S, at zero mean over the labels;
                        for two labels one channel is enough, the difference u of their logits:
                        du/dt = Omega tanh(u / 2)
    ties (E, M)         X_e, pairs (2, E) int64
    diagonal (n, M)     X_ii
"""

from __future__ import annotations

import torch
from torch import Tensor

# A sample's end is looked for after so many steps.
CHECK_EVERY = 4


def contrast(logits: Tensor) -> Tensor:
    """What the couplings act on: tanh(u / 2) for one channel, else softmax(v)."""
    return torch.tanh(logits / 2) if logits.shape[0] == 1 else logits.softmax(dim=0)


def couple(s: Tensor, ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float) -> Tensor:
    """Omega s, differentiable."""
    weights = ties.clamp_min(0)
    out = (diagonal.clamp_min(0) + epsilon) * s
    out = out.index_add(1, pairs[0], weights * s[:, pairs[1]])
    return out.index_add(1, pairs[1], weights * s[:, pairs[0]])


def centred(slope: Tensor) -> Tensor:
    """Zero mean over the labels; one channel is a difference already."""
    return slope if slope.shape[0] == 1 else slope - slope.mean(dim=0, keepdim=True)


def rectified_reference(
    logits: Tensor, ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float, steps: list[float]
) -> tuple[Tensor, Tensor]:
    """Logits after all explicit Euler steps, and before each of them: (C, n, M), (steps, C, n, M)."""
    tape = []
    logits = logits.clone()
    for step in steps:
        tape.append(logits)
        logits = logits + step * centred(couple(contrast(logits), ties, diagonal, pairs, epsilon))
    return logits, torch.stack(tape) if tape else logits.new_empty(0, *logits.shape)


def rectified_adjoint_reference(
    tape: Tensor,
    ties: Tensor,
    diagonal: Tensor,
    pairs: Tensor,
    grad: Tensor,
    epsilon: float,
    steps: list[float],
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Gradients by the start, the ties and the diagonal.

    One step is v' = v + h P Omega s(v) with P the projection to zero mean over the labels (none for one
    channel). With the gradient g of v', and p = h P g:

        by s: Omega p         by v: g + (ds/dv)^T Omega p,   ds/dv = (1 - tanh^2) / 2 or diag(s) - s s^T
        by Omega_ij: sum over the channels of p_i s_j + p_j s_i, by Omega_ii: p_i s_i

    and an entry of X that is not positive has the gradient 0.
    """
    by_ties, by_diagonal = torch.zeros_like(ties), torch.zeros_like(diagonal)
    for before, step in zip(reversed(tape.unbind()), reversed(steps), strict=True):
        s, p = contrast(before), step * centred(grad)
        by_ties = by_ties + (p[:, pairs[0]] * s[:, pairs[1]] + p[:, pairs[1]] * s[:, pairs[0]]).sum(dim=0)
        by_diagonal = by_diagonal + (p * s).sum(dim=0)
        pull = couple(p, ties, diagonal, pairs, epsilon)
        if grad.shape[0] == 1:
            grad = grad + pull * (1 - s * s) / 2
        else:
            grad = grad + s * (pull - (s * pull).sum(dim=0, keepdim=True))
    return grad.clone(), by_ties * (ties > 0), by_diagonal * (diagonal > 0)


def settled_reference(
    logits: Tensor, ties: Tensor, diagonal: Tensor, pairs: Tensor, epsilon: float
) -> Tensor:
    r"""(M,) bool: whether the flow can no longer change the label of any pixel.

    Let a_i be the label of pixel i and s_i its share now, and consider the region in which every pixel keeps
    at least that share for that label. There, for a = a_i, b != a, and Omega >= 0,

        d/dt (v_ia - v_ib) = sum_j omega_ij (S_ja - S_jb)
            >= sum_{a_j = a} omega_ij (2 s_j - 1) - sum_{a_j = b} omega_ij - sum_{other} omega_ij (1 - s_j).

    Where the right-hand side is >= 0 for all i and b, all these differences grow in the region, so no
    trajectory leaves it, and neither do Euler steps of any size. (For one channel there is no other label,
    and 2 s_j - 1 = |tanh(u_j / 2)|.)
    """
    if logits.shape[0] == 1:
        logits = torch.cat([-logits / 2, logits / 2])
    share, label = logits.softmax(dim=0).max(dim=0)
    chosen = torch.nn.functional.one_hot(label, logits.shape[0]).movedim(-1, 0).to(logits.dtype)
    same = couple(chosen * (2 * share - 1), ties, diagonal, pairs, epsilon)
    rival = couple(chosen, ties, diagonal, pairs, epsilon)
    loose = couple(chosen * (1 - share), ties, diagonal, pairs, epsilon)
    others = loose.sum(dim=0) - loose.gather(0, label[None])[0]
    gain = same.gather(0, label[None]) - rival - (others - loose)
    return ((gain >= 0) | (chosen > 0)).flatten(0, 1).all(dim=0) & (share > 0.5).all(dim=0)


def limit_reference(
    logits: Tensor,
    ties: Tensor,
    diagonal: Tensor,
    pairs: Tensor,
    epsilon: float,
    step: float,
    growth: float,
    max_steps: int,
) -> tuple[Tensor, Tensor]:
    """Labels (n, M) uint8 in the limit, and the steps taken (M,), -1 where the end was not reached.

    The step is multiplied by ``growth`` after each. A sample ends where its labels are settled
    (:func:`settled_reference`).
    """
    logits = logits.clone()
    taken = torch.full((logits.shape[2],), -1, dtype=torch.int64, device=logits.device)
    going = torch.arange(logits.shape[2], device=logits.device)
    for count in range(max_steps + 1):
        now, x, own = logits[..., going], ties[:, going], diagonal[:, going]
        if count % CHECK_EVERY and count < max_steps:
            logits[..., going] = now + step * centred(couple(contrast(now), x, own, pairs, epsilon))
            step *= growth
            continue
        done = settled_reference(now, x, own, pairs, epsilon)
        taken[going[done]] = count
        going = going[~done]
        if count == max_steps or not len(going):
            break
        now, x, own = now[..., ~done], x[:, ~done], own[:, ~done]
        logits[..., going] = now + step * centred(couple(contrast(now), x, own, pairs, epsilon))
        step *= growth
    labels = logits[0] > 0 if len(logits) == 1 else logits.argmax(dim=0)
    return labels.to(torch.uint8), taken
