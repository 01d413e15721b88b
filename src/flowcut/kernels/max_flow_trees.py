"""What a search for a maximum flow works on, how it begins, and what it says in the end.

Two trees of nodes: the source's has number 0 and positive levels, the sink's has number 1 and negative
levels; level 0 is no tree. How they grow is in :mod:`flowcut.kernels.max_flow_search`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowcut.kernels.jit import inner, spliced
from flowcut.kernels.max_flow_net import arc_count, first_arc, head_of, index, sister_of

# What stands for a parent at a root, and at an orphan or a node in no tree.
ROOT = -1
NOBODY = -2
# In ``flags``, beside one bit for each list: an orphan that has risen.
RISEN = 16
# Positions in ``control``: lengths of the four lists; for each tree its last level and which of its two
# lists has the nodes at that level; the tree that grows at the moment; for each tree its number of roots.
LEVEL, PHASE, GROWING, ROOTS = 4, 6, 8, 9
CONTROLS = 11
# How a search ends: a tree without roots, in the middle of things; or a tree that cannot grow.
SPENT, SOURCE_COMPLETE, SINK_COMPLETE = 0, 1, 2


class Trees(NamedTuple):
    """State of a search; arrays are indexed by node where nothing else is said.

    Attributes
    ----------
    residual
        float64, by arc: how much more flow it can take.
    excess
        float64: what is still to be sent (> 0) or still lacking (< 0).
    level
        int32: signed distance from the roots of the tree, which are at 1.
    parent
        Place of the arc to the parent.
    cursor
        Place before which no parent can be found.
    link
        int32: the next orphan at the same level.
    bucket
        int32, by level: the first orphan, -1 for none.
    flags
        uint8: the lists on which a node stands.
    lists
        (4, n) int32: nodes at the last and at the new level of tree 0, then of tree 1. Nodes that have left
        that level meanwhile are passed over. As levels do not fall, none stands on a list twice.
    control
        int64: numbers, see above.
    """

    residual: NDArray[np.float64]
    excess: NDArray[np.float64]
    level: NDArray[np.int32]
    parent: NDArray[np.signedinteger[Any]]
    cursor: NDArray[np.signedinteger[Any]]
    link: NDArray[np.int32]
    bucket: NDArray[np.int32]
    flags: NDArray[np.uint8]
    lists: NDArray[np.int32]
    control: NDArray[np.int64]


@inner
def exchange(room: int, count: int, net: Any, trees: Any) -> None:
    """Send what neighbours can take from each other directly: paths of one arc, without any tree."""
    degree, steps, starts, heads, sisters = net
    residual, excess, _, _, _, _, _, _, _, _ = trees
    for i in range(room, room + count):
        node = index(i)
        left = excess[node]
        if left <= 0:
            continue
        first = first_arc(node, degree, starts)
        for place in range(arc_count(node, degree, starts)):
            head = head_of(node, place, first, steps, heads)
            amount = min(left, residual[first + index(place)], -excess[head])
            if amount > 0:
                residual[first + index(place)] -= amount
                residual[sister_of(head, place, first, degree, sisters)] += amount
                excess[head] += amount
                left -= amount
        excess[node] = left


@inner
def plant(room: int, count: int, trees: Any) -> None:
    """Make a root of every node with excess or a lack of flow."""
    _, excess, level, parent, cursor, _, bucket, flags, lists, control = trees
    control[:] = 0
    control[LEVEL], control[LEVEL + 1] = 1, 1
    for i in range(count + 3):
        bucket[i] = -1
    for node in range(room, room + count):
        level[node], parent[node], cursor[node], flags[node] = 0, NOBODY, 0, 0
    for i in range(room, room + count):
        node = index(i)
        if excess[node] != 0:
            tree = 0 if excess[node] > 0 else 1
            level[node], parent[node] = 1 - 2 * tree, ROOT
            control[ROOTS + tree] += 1
            enlist(node, tree, 1, flags, lists, control)


@spliced
def enlist(node: Any, tree: int, level: int, flags: Any, lists: Any, control: Any) -> None:
    """Remember a node that has just come to the last level of its tree or to the one after it."""
    ahead = level - control[LEVEL + tree]
    if ahead < 0:
        return
    row = 2 * tree + (control[PHASE + tree] ^ ahead)
    bit = 1 << row
    if flags[node] & bit == 0:
        flags[node] |= bit
        lists[row, control[row]] = node
        control[row] += 1


@inner
def mark_source_side(ended: int, net: Any, trees: Any, room: int, mask: Any) -> None:
    """Which nodes excess can still reach: the smallest side of the source among all minimum cuts.

    Those are the source's tree and what its last level can reach. If the search has broken off, trees mean
    nothing, and all remaining excess is where to begin.
    """
    degree, steps, starts, heads, _ = net
    residual, excess, level, _, _, _, _, _, lists, control = trees
    queue, done, count = lists[2], 0, 0  # the sink's lists are not needed any more
    if ended == SINK_COMPLETE:
        row = control[PHASE]
        for i in range(control[row]):
            queue[count] = lists[row, i]
            count += level[index(queue[count])] > 0
    elif ended == SPENT:
        for i in range(room, room + len(mask)):
            level[i] = 1 if excess[i] > 0 else 0
            if level[i] > 0:
                queue[count] = i
                count += 1
    while done < count:
        node = index(queue[done])
        done += 1
        first = first_arc(node, degree, starts)
        for place in range(arc_count(node, degree, starts)):
            head = head_of(node, place, first, steps, heads)
            if residual[first + index(place)] > 0 and level[head] == 0:
                level[head], queue[count] = 1, head
                count += 1
    for i in range(len(mask)):
        mask[i] = level[room + i] > 0
