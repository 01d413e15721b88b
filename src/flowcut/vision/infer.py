"""Train with one head, infer with another: any head on the scores and ties that a network has learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from flowcut.core.neighborhood import Graph, Neighborhood
from flowcut.vision.evaluating import device_of
from flowcut.vision.fit_ties import fit_ties, half_window, tied_by
from flowcut.vision.hard_heads import MaxFlowHead
from flowcut.vision.heads import HEADS, build_head
from flowcut.vision.networks.headed import Headed, solve_parts
from flowcut.vision.ties import Ties, ties_of
from flowcut.vision.with_head import with_head

__all__ = ["INFERENCE", "InferenceNetwork", "with_inference"]

# The words of the command line.
INFERENCE: dict[str, dict[str, Any] | None] = {
    "soft_cut": {"name": "SoftCut"},
    "total_variation": {"name": "TotalVariation"},
    "random_walker": {"name": "RandomWalker"},
    "perturbed": {"name": "Perturbed"},
    "linear_assignment_flow": {"name": "LinearAssignmentFlow"},
    "max_flow": {"name": "MaxFlow"},
    "alpha_expansion": {"name": "AlphaExpansion"},
    "none": None,
}


def with_inference(
    network: nn.Module,
    head: str | Mapping[str, Any] | nn.Module | None,
    edges: Literal["contrast"] | None = None,
) -> nn.Module:
    """A trained network whose scores and ties go through another head.

    Parameters
    ----------
    network
        One with a head: of :mod:`flowcut.vision.networks`, or of :func:`flowcut.with_head`. It is used, not
        copied or changed. One without, which gives logits for pictures, needs ``edges``.
    head
        A word of :data:`INFERENCE`, for example "max_flow"; the network's own head is taken, with its
        settings, where it is of that kind. Or what :func:`flowcut.vision.heads.build_head` takes, or a
        module called as ``head(scores, ties)``. None or "none": the scores as they are.
    edges
        None: the ties that the network has learned, made to fit the head. Between heads that take edges they
        are the same; for edges in the place of a flow's weights and the other way round see
        :func:`flowcut.vision.fit_ties.weights_from_edges` and
        :func:`flowcut.vision.fit_ties.edges_from_weights`. "contrast": made from the picture, by
        :class:`flowcut.vision.edges.ContrastEdges` as it is before any training.

    Returns
    -------
    nn.Module
        Gives logits (N, C, *spatial) for pictures, and has ``forward_parts`` as the network has, with the
        network's parameters; in its mode (training or evaluation).

    Raises
    ------
    ValueError
        The head is not known, the network has no ties for it, or the head ties pixels of which the network
        says nothing, or it is "max_flow" for three labels or more.

    Examples
    --------
    >>> from flowcut.vision.networks import BasicCnn
    >>> network = BasicCnn(width=4, head=fc.SoftCut()).eval()
    >>> images = torch.rand(1, 3, 8, 8)
    >>> parts = network.forward_parts(images)
    >>> mask = with_inference(network, "max_flow")(images)[:, 0] > 0
    >>> bool((mask == fc.max_flow(parts["scores"], parts["edges"])).all())
    True
    """
    if edges not in (None, "contrast"):
        raise ValueError(f"edges: expected None or contrast, got {edges!r}")
    if isinstance(network, InferenceNetwork):
        network = network.network
    chosen = _read_word(head)
    old = getattr(network, "head", None) if isinstance(network, Headed) else None
    if chosen is None:
        return InferenceNetwork(network, None, network.ties) if isinstance(network, Headed) else network
    ndim = int(getattr(network, "ndim", 2))
    if edges == "contrast":
        scores = network if old is None else with_inference(network, None)
        new = _check(network, _made(network, chosen, old, None))
        return _beside(network, with_head(scores, new, edges="contrast", ndim=ndim))
    if old is None or not isinstance(network, Headed):
        raise ValueError(
            "network: expected one with a head, for a new head needs ties, got "
            f"{type(network).__name__} without; edges='contrast' makes them from the picture"
        )
    source = tied_by(network.ties, getattr(old, "neighborhood", None), ndim)
    new = _check(network, _made(network, chosen, old, source))
    ties = network.ties if new is old else _fit(network.ties, source, new)
    return _beside(network, InferenceNetwork(network, new, ties))


class InferenceNetwork(nn.Module):
    """A network's scores and ties through a head of choice; see :func:`with_inference`, which makes it.

    Parameters
    ----------
    network
        Of :class:`flowcut.vision.networks.headed.Headed`.
    head
        Called as ``head(scores, ties)``; None: the scores are the logits.
    ties
        How raw ties are read for it.
    """

    def __init__(self, network: nn.Module, head: nn.Module | None, ties: Ties) -> None:
        super().__init__()
        self.network, self.head, self.ties = network, head, ties

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C, *spatial) of images (N, channels, *spatial)."""
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
            ``scores`` of the network, ties under the name the head gives them, and ``logits``.

        Raises
        ------
        ValueError
            ``images`` is not what the network takes.
        """
        check = getattr(self.network, "check_images", None)
        if check is not None:
            check(images)
        return solve_parts(self, images)

    def raw_parts(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores (N, C, *spatial) and raw ties (N, ties.channels, *spatial) of the network."""
        assert isinstance(self.network, Headed)
        return self.network.raw_parts(images)

    def extra_repr(self) -> str:
        """The ties, as ``print`` shows them."""
        return f"ties={self.ties}"


def _read_word(
    head: str | Mapping[str, Any] | nn.Module | None,
) -> str | Mapping[str, Any] | nn.Module | None:
    if isinstance(head, str):
        if head not in INFERENCE:
            raise ValueError(f"head: expected one of {', '.join(INFERENCE)}, got {head}")
        return None if head == "none" else head
    return head


def _made(
    network: nn.Module,
    head: str | Mapping[str, Any] | nn.Module,
    old: nn.Module | None,
    source: Neighborhood | None,
) -> nn.Module:
    """The head of a word, of plain data, or as it is; ``source``: what the network's ties tie."""
    if isinstance(head, nn.Module):
        return head
    config = dict(INFERENCE[head] or {}) if isinstance(head, str) else dict(head)
    name, channels = config.get("name"), int(getattr(network, "num_classes", 1))
    if name == "Perturbed" and channels > 1:
        config.setdefault("fn", "alpha_expansion")
    target = None
    if source is not None and isinstance(name, str) and name in HEADS:
        if HEADS[name].takes_edges:
            target = _cut_ties(source)
        else:
            config.setdefault("window", max(3, 2 * _reach(source) + 1))
    new = build_head(config, target)
    return old if isinstance(head, str) and old is not None and _kind(old) == _kind(new) else new


def _cut_ties(source: Neighborhood) -> Neighborhood:
    """What a cut ties on a network's edges or, each tie once, on its window."""
    if (0,) * source.ndim in source.offsets:
        return half_window(source.ndim, 2 * _reach(source) + 1)
    return source


def _reach(neighborhood: Neighborhood) -> int:
    return max(abs(o) for offset in neighborhood.offsets for o in offset)


def _kind(head: nn.Module) -> tuple[type, type]:
    return type(head), type(getattr(head, "flow", None))


def _check(network: nn.Module, head: nn.Module) -> nn.Module:
    """Refuse before any picture is read what can be refused."""
    if isinstance(head, MaxFlowHead):
        head.check_channels(int(getattr(network, "num_classes", 1)))
    return head


def _fit(ties: Ties, source: Neighborhood, head: nn.Module) -> Ties:
    """The network's ties for a new head."""
    wanted, given = ties_of(head, ndim=source.ndim), getattr(head, "neighborhood", None)
    if isinstance(given, Graph):
        raise ValueError("head: expected one for a grid, got one for a graph")
    if given is not None or wanted.name == "weights":
        return fit_ties(ties, source, wanted.name, tied_by(wanted, given, source.ndim))
    target = _cut_ties(source)
    if Neighborhood.infer(source.ndim, len(target)).offsets != target.offsets:
        raise ValueError(f"head: expected one with a neighborhood of offsets {target.offsets}, got none")
    return fit_ties(ties, source, wanted.name, target)


def _beside(network: nn.Module, new: nn.Module) -> nn.Module:
    """What is new is in the mode and on the device of the network, all of whose parts stay as they are."""
    inner = set(network.modules())
    for module in new.modules():
        if module not in inner:
            module.training = network.training
    return new.to(device_of(network))
