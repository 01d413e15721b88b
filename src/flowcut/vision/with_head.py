"""A head on any network that gives logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from flowcut.core.neighborhood import Neighborhood
from flowcut.vision.edges import ContrastEdges
from flowcut.vision.fit_ties import tied_by
from flowcut.vision.networks.headed import solve_parts
from flowcut.vision.tie_sources import FeatureTies, PictureTies
from flowcut.vision.ties import KnownStrengths, Ties, ties_of

__all__ = ["WithHead", "with_head"]

Features = str | Callable[[Tensor], Tensor]


def with_head(
    network: nn.Module,
    head: nn.Module,
    edges: Literal["convolution", "features", "contrast"] | nn.Module = "convolution",
    *,
    frozen: bool = False,
    in_channels: int = 3,
    features: Features | None = None,
    feature_channels: int | None = None,
    ndim: int = 2,
) -> WithHead:
    """Put a head on a network that maps pictures to logits of their size.

    Parameters
    ----------
    network
        ``network(images)`` gives logits (N, C, *spatial) for images (N, channels, *spatial), C = 1 read by a
        sigmoid, C >= 2 by a softmax. It is used, not copied.
    head
        Called as ``head(scores, ties)``, for example :class:`flowcut.SoftCut` or
        :class:`flowcut.vision.flow_head.FlowHead`. It says what ties it takes, see
        :func:`flowcut.vision.ties.ties_of`.
    edges
        Where the ties come from. "convolution": three small convolutions on the picture, to be trained.
        "features": one convolution on features, to be trained. "contrast":
        :class:`flowcut.vision.edges.ContrastEdges`, useful before any training. Or a module that gives
        raw values (N, K, *spatial) for images, read as the head says, or, where it has a true attribute
        ``positive``, strengths (N, K, *spatial) >= 0.
    frozen
        True: the network stays as it is. Its parameters ask for no gradient, and it stays in evaluation
        mode, so that batch norms keep their statistics.
    in_channels
        Channels of the picture, for "convolution".
    features
        For "features": the name of a submodule of ``network``, which gets a forward hook, or a callable
        ``features(images)``. Their size may differ from the picture's.
    feature_channels
        Channels of the features.
    ndim
        Number of spatial axes, 1 to 3, where the head has no neighborhood that tells.

    Returns
    -------
    WithHead
        With the parameters of ``network``, of the source of the ties, and of ``head``.

    Raises
    ------
    ValueError
        ``edges`` is none of those, or what it needs is missing.

    Examples
    --------
    >>> from flowcut.cut.soft_cut import SoftCut
    >>> network = with_head(torch.nn.Conv2d(3, 1, 1), SoftCut(), edges="contrast", frozen=True)
    >>> sorted(network.forward_parts(torch.rand(1, 3, 8, 8)))
    ['edges', 'logits', 'scores']
    >>> [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    ['source.log_strength', 'source.log_beta', 'source.log_floor']
    """
    neighborhood = getattr(head, "neighborhood", None)
    if isinstance(neighborhood, Neighborhood):
        ndim = neighborhood.ndim
    ties = ties_of(head, ndim=ndim)
    if isinstance(edges, nn.Module):
        source: nn.Module = edges
    elif edges == "convolution":
        source = PictureTies(in_channels, ties.channels, ndim=ndim)
    elif edges == "features":
        if features is None or feature_channels is None:
            raise ValueError(
                "features: expected features= and feature_channels= for edges='features', got "
                f"{features!r} and {feature_channels!r}"
            )
        source = FeatureTies(network, features, feature_channels, ties.channels, ndim)
    elif edges == "contrast":
        source = ContrastEdges(tied_by(ties, neighborhood, ndim))
    else:
        raise ValueError(f"edges: expected convolution, features, contrast or a module, got {edges!r}")
    return WithHead(network, head, source, ties, frozen, ndim)


class WithHead(nn.Module):
    """A network, what ties its pixels, and a head; see :func:`with_head`, which makes it.

    Parameters
    ----------
    network, head, frozen
        As for :func:`with_head`.
    source
        Module from images to raw values, or, with a true attribute ``positive``, to strengths,
        (N, ties.channels, *spatial).
    ties
        How the head reads them.
    ndim
        Number of spatial axes.
    """

    def __init__(
        self,
        network: nn.Module,
        head: nn.Module,
        source: nn.Module,
        ties: Ties,
        frozen: bool = False,
        ndim: int = 2,
    ) -> None:
        super().__init__()
        self.ndim = ndim
        self.network, self.source, self.head = network, source, head
        self.ties = KnownStrengths(ties) if getattr(source, "positive", False) else ties
        self.frozen = frozen
        if frozen:
            network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> WithHead:
        """Training or evaluation mode; a frozen network stays in the latter."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C, *spatial) of images (N, channels, *spatial), see :meth:`forward_parts`."""
        return self.forward_parts(images)["logits"]

    def forward_parts(self, images: Tensor) -> dict[str, Tensor]:
        """The logits and what they were made from.

        Parameters
        ----------
        images
            (N, channels, *spatial), as the network takes them.

        Returns
        -------
        dict of str to Tensor
            ``scores``, what the network gave, and ``logits``, what the head made of it, (N, C, *spatial);
            ``edges`` (N, K, *spatial), or whatever else the head calls its ties.

        Raises
        ------
        ValueError
            The network gives no logits of the picture's size, or the source of the ties something of
            another shape than it should.
        """
        return solve_parts(self, images)

    def raw_parts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, C, *spatial) and raw ties (N, ties.channels, *spatial), checked."""
        scores, raw = self.network(images), self.source(images)
        _check_scores(scores, images)
        expected = (len(images), self.ties.channels, *images.shape[2:])
        if tuple(raw.shape) != expected:
            raise ValueError(f"edges: expected shape {expected} from their source, got {tuple(raw.shape)}")
        return scores, raw

    def extra_repr(self) -> str:
        """The ties and whether the network is frozen, as ``print`` shows them."""
        return f"ties={self.ties}, frozen={self.frozen}"


def _check_scores(scores: Any, images: Tensor) -> None:
    expected = f"(N, C, {', '.join(map(str, images.shape[2:]))})"
    if not isinstance(scores, Tensor):
        raise ValueError(f"network: expected logits {expected}, got {type(scores).__name__}")
    if scores.ndim != images.ndim or len(scores) != len(images) or scores.shape[2:] != images.shape[2:]:
        raise ValueError(
            f"network: expected logits {expected} of the picture's size, got {tuple(scores.shape)}"
        )
