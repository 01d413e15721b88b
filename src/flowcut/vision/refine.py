"""The output of any network cleaned up by a cut along the contrast of the picture, without training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowcut.core.checks import check_finite, check_floating
from flowcut.core.neighborhood import Neighborhood
from flowcut.cut.soft_cut import SoftCut
from flowcut.cut.total_variation import TotalVariation
from flowcut.flow.linear import LinearAssignmentFlow
from flowcut.vision.edges import ContrastEdges
from flowcut.vision.fit_ties import tied_by
from flowcut.vision.flow_head import FlowHead
from flowcut.vision.hard_heads import ExpansionHead, MaxFlowHead
from flowcut.vision.networks.headed import full_precision
from flowcut.vision.ties import KnownStrengths, ties_of

__all__ = ["REFINING_HEADS", "Refiner", "refine"]

SCALARS = ("strength", "beta", "floor", "temperature")
_WINDOW = 3


class _Named(NamedTuple):
    """A head by name: what makes it, what stands in for it while scalars are fitted, and its defaults."""

    make: Callable[[Neighborhood], nn.Module]
    relaxed: Callable[[Neighborhood], nn.Module] | None
    defaults: Mapping[str, float]
    window: bool = False


class PottsVariation(nn.Module):
    """Total variation of every label, with the edges of a Potts energy.

    Of C >= 2 labels, two differ where neighbours do, so that each pays half of the edge. Scores count
    relative to their mean at the pixel, since adding a number to all labels of a pixel says nothing: then two
    channels -s/2 and s/2 with edges w/2 are half of what one channel s with edges w gives, and read alike.

    Examples
    --------
    >>> one, edges = torch.tensor([[[[2.0, -1.0, 2.0]]]]), torch.ones(1, 2, 1, 3)
    >>> head = PottsVariation(Neighborhood.edges(2))
    >>> two = head(torch.cat([5 - one / 2, 5 + one / 2], dim=1), edges)
    >>> torch.allclose(two[:, 1:] - two[:, :1], head(one, edges))
    True
    """

    def __init__(self, neighborhood: Neighborhood) -> None:
        super().__init__()
        self.neighborhood = neighborhood
        self.variation = TotalVariation(neighborhood)

    def forward(self, scores: Tensor, edges: Tensor) -> Tensor:
        """Flattened scores (N, C, *spatial)."""
        if scores.shape[1] == 1:
            one: Tensor = self.variation(scores, edges)
            return one
        several: Tensor = self.variation(scores - scores.mean(dim=1, keepdim=True), edges / 2)
        return several


def _flow(neighborhood: Neighborhood) -> nn.Module:
    return FlowHead(LinearAssignmentFlow(), round(len(neighborhood) ** (1 / neighborhood.ndim)))


# Chosen on validation pictures: those of the horses ask for somewhat more, those of CamVid, whose poles and
# signs are a pixel wide, for less.
_CUT = {"strength": 2.0, "beta": 1.0, "floor": 0.01}
_FLOW = {"strength": 1.0, "beta": 0.5, "floor": 0.01}
REFINING_HEADS: Mapping[str, _Named] = {
    "soft_cut": _Named(lambda where: SoftCut(neighborhood=where), None, _CUT),
    "total_variation": _Named(PottsVariation, None, _CUT),
    "max_flow": _Named(lambda where: MaxFlowHead(neighborhood=where), PottsVariation, _CUT),
    "alpha_expansion": _Named(lambda where: ExpansionHead(neighborhood=where), PottsVariation, _CUT),
    "linear_assignment_flow": _Named(_flow, None, _FLOW, window=True),
}


def refine(
    logits: Tensor,
    image: Tensor,
    head: str | nn.Module = "soft_cut",
    *,
    strength: float | None = None,
    beta: float | None = None,
    floor: float | None = None,
    temperature: float = 1.0,
    relative: bool = True,
    neighborhood: Neighborhood | None = None,
) -> Tensor:
    """Clean up the output of a network: pixels that look alike and touch get labels that agree.

    What dense conditional random fields are used for after a network, by a cut: neighbours are tied by the
    contrast of the picture (:class:`flowcut.vision.edges.ContrastEdges`), and the head makes the logits
    coherent along strong ties. Nothing is trained; the four numbers can be fitted to a few labelled pictures
    by :func:`flowcut.vision.refine_fit.fit_refiner`.

    Parameters
    ----------
    logits
        (N, C, *spatial), floating point, finite, not probabilities: C = 1 read by a sigmoid, C >= 2 by a
        softmax.
    image
        (N, channels, *spatial), floating point, finite, any number of channels. With ``relative`` its unit
        and its offset do not matter: pictures in [0, 1], 16 bits as float, or as normalised for a network.
        Channels of different units should be brought to one before.
    head
        "soft_cut" (:func:`flowcut.soft_cut`), "total_variation" (:func:`flowcut.total_variation`),
        "max_flow" (C = 1) and "alpha_expansion" (:func:`flowcut.max_flow`, :func:`flowcut.alpha_expansion`:
        labelings of least energy, see Returns), or "linear_assignment_flow" (pictures alone, not volumes).
        Or a module called as ``head(scores, ties)``, which says what ties it takes, see
        :func:`flowcut.vision.ties.ties_of`.
    strength, beta, floor
        Of the edges, > 0. None: what suits the head. Edges are what it costs that neighbours differ beside
        logits divided by ``temperature``, except for SoftCut, which is linear in the logits: there they stand
        beside a confidence of 1. The assignment flow averages with edges over their sum, so that only floor /
        strength counts.
    temperature
        The logits are divided by it, > 0.
    relative
        See :class:`flowcut.vision.edges.ContrastEdges`; with False ``beta`` is in units of the image.
    neighborhood
        Which pixels are tied. Default: the head's own if it has one; else neighbours along axes and
        diagonals, for the flow a window of 3 x 3.

    Returns
    -------
    Tensor
        (N, C, *spatial) of the type of ``logits``, read as they are. Differentiable in ``logits`` and
        ``image``, except after "max_flow" and "alpha_expansion".

    Raises
    ------
    TypeError
        ``logits`` or ``image`` is not floating point, for example a picture of uint8.
    ValueError
        Sizes do not match, a value is NaN or infinite, a number is not > 0, or the head is not known.

    Examples
    --------
    The third pixel looks like the first two, whatever the network says:

    >>> logits = torch.tensor([[[[2.0, 2.0, -0.5, -2.0]]]])
    >>> image = torch.tensor([[[[0.9, 0.9, 0.9, 0.1]]]])
    >>> (refine(logits, image) > 0).int().tolist()
    [[[[1, 1, 1, 0]]]]
    """
    check_floating("logits", logits)
    scalars = {"strength": strength, "beta": beta, "floor": floor, "temperature": temperature}
    refiner = Refiner(
        head, **scalars, relative=relative, neighborhood=neighborhood, ndim=max(1, logits.ndim - 2)
    )
    refined: Tensor = refiner.requires_grad_(False).to(logits.device)(logits, image)
    return refined


class Refiner(nn.Module):
    """:func:`refine` as a module, whose four numbers are parameters.

    They are kept as logarithms, which keeps them positive: ``edges.log_strength``, ``edges.log_beta``,
    ``edges.log_floor`` and ``log_temperature``.

    Parameters
    ----------
    head, strength, beta, floor, temperature, relative, neighborhood
        As for :func:`refine`.
    ndim
        Number of spatial axes, where no neighborhood tells.

    Raises
    ------
    ValueError
        A number is not finite and > 0, or the head is not known.

    Examples
    --------
    Numbers go to a file and come back as plain data:

    >>> kept = Refiner("soft_cut", strength=5.0).scalars()
    >>> sorted(kept)
    ['beta', 'floor', 'strength', 'temperature']
    >>> round(Refiner("soft_cut", **kept).scalars()["strength"], 3)
    5.0
    """

    def __init__(
        self,
        head: str | nn.Module = "soft_cut",
        strength: float | None = None,
        beta: float | None = None,
        floor: float | None = None,
        temperature: float | None = None,
        *,
        relative: bool = True,
        neighborhood: Neighborhood | None = None,
        ndim: int = 2,
    ) -> None:
        super().__init__()
        named = _named(head)
        where = _neighborhood(head, named, neighborhood, ndim)
        self.head = named.make(where)
        self.relaxed_head = None if named.relaxed is None else named.relaxed(where)
        self.ties = KnownStrengths(ties_of(self.head, ndim=where.ndim))
        given = {"strength": strength, "beta": beta, "floor": floor}
        values = {**named.defaults, **{name: value for name, value in given.items() if value is not None}}
        self.edges = ContrastEdges(where, **values, relative=relative)
        temperature = 1.0 if temperature is None else temperature
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature: expected a finite number > 0, got {temperature}")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Refined logits (N, C, *spatial), see :func:`refine`."""
        # Hard heads refuse what asks for a gradient.
        return self._refined(self.head, logits, image, detached=self.relaxed_head is not None)

    def relaxation(self, logits: Tensor, image: Tensor) -> Tensor:
        """What is differentiable in the four numbers: the same, or total variation for a head that is hard.

        One channel of total variation thresholded at 0 is the minimum cut, so that "max_flow" gives the very
        labels of it; several channels are close to what expansion moves find.

        Parameters
        ----------
        logits, image
            As for :func:`refine`.

        Returns
        -------
        Tensor
            (N, C, *spatial).
        """
        return self._refined(self.relaxed_head or self.head, logits, image)

    def scalars(self) -> dict[str, float]:
        """``strength``, ``beta``, ``floor`` and ``temperature`` as they are now, plain numbers."""
        return {**self.edges.scalars(), "temperature": float(self.log_temperature.detach().exp())}

    def extra_repr(self) -> str:
        """The temperature, as ``print`` shows it; the edges show their own numbers."""
        return f"temperature={self.scalars()['temperature']:.4g}"

    def _refined(self, head: nn.Module, logits: Tensor, image: Tensor, detached: bool = False) -> Tensor:
        _check(logits, image)
        scores = full_precision(logits) / self.log_temperature.exp()
        ties = self.ties.read(self.edges(image.to(scores.dtype)))
        if detached:
            scores, ties = scores.detach(), ties.detach()
        refined: Tensor = head(scores, ties)
        return refined.to(logits.dtype)


def _check(logits: Tensor, image: Tensor) -> None:
    check_floating("logits", logits)
    if isinstance(image, Tensor) and not image.dtype.is_floating_point:
        raise TypeError(f"image: expected floating point, for example image / 255, got {image.dtype}")
    check_floating("image", image)
    if logits.ndim < 3 or logits.shape[1] == 0:
        raise ValueError(f"logits: expected (N, C, *spatial) with C >= 1, got {tuple(logits.shape)}")
    if image.ndim != logits.ndim or len(image) != len(logits) or image.shape[2:] != logits.shape[2:]:
        sizes = ", ".join(map(str, logits.shape[2:]))
        raise ValueError(
            f"image: expected ({len(logits)}, channels, {sizes}) as the logits have it, "
            f"got {tuple(image.shape)}"
        )
    check_finite("logits", logits)
    check_finite("image", image)


def _named(head: str | nn.Module) -> _Named:
    if isinstance(head, nn.Module):
        return _Named(lambda where: head, None, _CUT, window=ties_of(head).name == "weights")
    if head not in REFINING_HEADS:
        raise ValueError(f"head: expected one of {', '.join(REFINING_HEADS)} or a module, got {head!r}")
    return REFINING_HEADS[head]


def _neighborhood(
    head: str | nn.Module, named: _Named, given: Neighborhood | None, ndim: int
) -> Neighborhood:
    """What was given, or what the head ties, or what is usual."""
    own = getattr(head, "neighborhood", None)
    if given is not None:
        return given
    if isinstance(own, Neighborhood):
        return own
    if isinstance(head, nn.Module):
        return tied_by(ties_of(head, ndim=ndim), own, ndim)
    return Neighborhood.window(ndim, _WINDOW) if named.window else Neighborhood.edges(ndim, min(2, ndim))
