"""Maximum flow by incremental breadth-first search, on the nodes of a :class:`Net`.

Goldberg, Hed, Kaplan, Tarjan, Werneck: Maximum Flows by Incremental Breadth-First Search (ESA 2011), written
from the paper's description. Two trees grow towards each other, one from all nodes with excess (they are at
level 1 of the source's tree) along arcs with residual capacity, one from all nodes with a lack of flow,
against such arcs. A pass grows one tree by one level: it scans the nodes at the last level. An arc that
leads into the other tree closes a path; flow is sent along it, and saturated arcs make orphans. An orphan
looks for a parent one level below its own; if there is none it rises to one above the lowest neighbour of its
tree that it can be reached from, its children become orphans, and if that is more than the tree has levels
it leaves the tree. Levels within a tree never fall, which bounds the work whatever the capacities are. When a
tree cannot grow or has no root left, there is no path any more and the flow is maximal.

Orphans are treated level by level from below, so that a parent, once found, stays. As levels do not fall,
a node also remembers the place up to which its arcs cannot lead to a parent at the present level.

All functions here are parts of one loop and are compiled into it: as calls, with all these arrays to
hand over, they would take as long again as their work.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowcut.kernels.jit import inner, spliced
from flowcut.kernels.max_flow_net import arc_count, first_arc, head_of, index, sister_of, sister_place
from flowcut.kernels.max_flow_trees import (
    GROWING,
    LEVEL,
    NOBODY,
    PHASE,
    RISEN,
    ROOT,
    ROOTS,
    SOURCE_COMPLETE,
    SPENT,
    enlist,
)


@inner
def search(net: Any, trees: Any) -> int:
    """Send as much flow as there is; returns how it ended."""
    control = trees[9]
    tree = 0
    while _both_have_roots(control):
        control[GROWING] = tree
        _grow(tree, net, trees)
        row = 2 * tree + control[PHASE + tree]
        control[row] = 0
        control[PHASE + tree] ^= 1
        control[LEVEL + tree] += 1
        if control[row ^ 1] == 0 and _both_have_roots(control):
            return SOURCE_COMPLETE + tree
        tree ^= 1
    return SPENT


@spliced
def _both_have_roots(control: Any) -> bool:
    return control[ROOTS] > 0 and control[ROOTS + 1] > 0


@spliced
def _grow(tree: int, net: Any, trees: Any) -> None:
    """One pass: scan the nodes at the last level of a tree."""
    _, _, level, _, _, _, _, flags, lists, control = trees
    row, last, done = 2 * tree + control[PHASE + tree], control[LEVEL + tree], 0
    while done < control[row] and _both_have_roots(control):
        node = index(lists[row, done])
        done += 1
        flags[node] &= 255 ^ (1 << row)
        if level[node] == (1 - 2 * tree) * last:
            _scan(node, tree, last, net, trees)


@spliced
def _scan(node: Any, tree: int, last: int, net: Any, trees: Any) -> None:
    """Take in the neighbours in no tree, send flow to those in the other; until the node itself moves."""
    degree, steps, starts, heads, sisters = net
    residual, _, level, parent, cursor, _, _, flags, lists, control = trees
    sign = 1 - 2 * tree
    first, place, places = first_arc(node, degree, starts), 0, arc_count(node, degree, starts)
    while place < places and level[node] == sign * last:
        head = head_of(node, place, first, steps, heads)
        there = level[head] * sign
        if there > 0:
            place += 1
            continue
        arc, back = first + index(place), sister_of(head, place, first, degree, sisters)
        if residual[arc if tree == 0 else back] <= 0:
            place += 1
        elif there == 0:
            level[head] = sign * (last + 1)
            parent[head], cursor[head] = sister_place(head, place, first, starts, sisters), 0
            enlist(head, tree, last + 1, flags, lists, control)
            place += 1
        else:
            source, sink = node, head
            if tree == 1:
                source, sink, arc, back = head, node, back, arc
            _augment(source, sink, arc, back, net, trees)
            if not _both_have_roots(control):
                return


@spliced
def _augment(source: Any, sink: Any, arc: Any, back: Any, net: Any, trees: Any) -> None:
    """Send flow from the root above ``source`` over the arc to the root above ``sink``."""
    residual = trees[0]
    amount = min(residual[arc], _bottleneck(source, 0, net, trees), _bottleneck(sink, 1, net, trees))
    residual[arc] -= amount
    residual[back] += amount
    _send(source, 0, amount, net, trees)
    _send(sink, 1, amount, net, trees)


@spliced
def _bottleneck(node: Any, tree: int, net: Any, trees: Any) -> float:
    """The most that the path between a node and its root can take."""
    degree, steps, starts, heads, sisters = net
    residual, excess, _, parent, _, _, _, _, _, _ = trees
    least = np.inf
    while parent[node] != ROOT:
        place, first = parent[node], first_arc(node, degree, starts)
        head = head_of(node, place, first, steps, heads)
        arc = first + index(place) if tree == 1 else sister_of(head, place, first, degree, sisters)
        least = min(least, residual[arc])
        node = head
    return min(least, abs(excess[node]))


@spliced
def _send(node: Any, tree: int, amount: float, net: Any, trees: Any) -> None:
    """Send flow between a node and its root; those who are cut off by that look for new parents."""
    degree, steps, starts, heads, sisters = net
    residual, excess, level, parent, _, link, bucket, _, _, control = trees
    lowest, highest, place = 0, 0, 0
    while place != ROOT:
        place, upper = parent[node], node
        if place == ROOT:
            excess[node] += amount if tree == 1 else -amount
            saturated = excess[node] == 0
            control[ROOTS + tree] -= saturated
        else:
            first = first_arc(node, degree, starts)
            upper = head_of(node, place, first, steps, heads)
            down, up = first + index(place), sister_of(upper, place, first, degree, sisters)
            if tree == 0:
                down, up = up, down
            residual[down] -= amount
            residual[up] += amount
            saturated = residual[down] <= 0
        if saturated:
            lowest = abs(level[node])
            highest = max(highest, lowest)
            parent[node], link[node], bucket[lowest] = NOBODY, bucket[lowest], node
        node = upper
    if highest > 0 and control[ROOTS + tree] > 0:
        _adopt(tree, lowest, highest, net, trees)


@spliced
def _adopt(tree: int, low: int, high: int, net: Any, trees: Any) -> None:
    """Give all orphans, from level ``low`` up, a parent or their freedom."""
    _, _, level, parent, cursor, link, bucket, flags, lists, control = trees
    sign = 1 - 2 * tree
    limit = control[LEVEL + tree] + (1 if control[GROWING] == tree else 0)
    while low <= high:
        if bucket[low] < 0:
            low += 1
            continue
        node = index(bucket[low])
        bucket[low] = link[node]
        place = _find_parent(node, tree, low, net, trees)
        if place >= 0:
            parent[node], cursor[node] = place, place
            if flags[node] & RISEN:
                flags[node] &= 255 ^ RISEN
                enlist(node, tree, low, flags, lists, control)
            continue
        lowest, place, high = _leave(node, tree, low, high, limit, net, trees)
        if lowest < limit:
            level[node], cursor[node] = sign * (lowest + 1), place
            flags[node] |= RISEN
            link[node], bucket[lowest + 1] = bucket[lowest + 1], node
            high = max(high, lowest + 1)
        else:
            level[node] = 0
            flags[node] &= 255 ^ RISEN


@spliced
def _find_parent(node: Any, tree: int, low: int, net: Any, trees: Any) -> int:
    """Place of a neighbour one level below that the node can be reached from, -1 if there is none."""
    degree, steps, starts, heads, sisters = net
    residual, _, level, _, cursor, _, _, _, _, _ = trees
    first, places = first_arc(node, degree, starts), arc_count(node, degree, starts)
    if low == 1:  # a root that is used up: nobody stands below it
        return -1
    for place in range(cursor[node], places):
        head = head_of(node, place, first, steps, heads)
        if level[head] == (1 - 2 * tree) * (low - 1):
            arc = first + index(place) if tree == 1 else sister_of(head, place, first, degree, sisters)
            if residual[arc] > 0:
                return place
    return -1


@spliced
def _leave(
    node: Any, tree: int, low: int, high: int, limit: int, net: Any, trees: Any
) -> tuple[int, int, int]:
    """Make orphans of the children; returns level and place of the lowest neighbour, highest orphan."""
    degree, steps, starts, heads, sisters = net
    residual, _, level, parent, _, link, bucket, _, _, _ = trees
    first, lowest, chosen = first_arc(node, degree, starts), limit, 0
    for place in range(arc_count(node, degree, starts)):
        head = head_of(node, place, first, steps, heads)
        there = level[head] * (1 - 2 * tree)
        if there == low + 1 and parent[head] == sister_place(head, place, first, starts, sisters):
            parent[head], link[head], bucket[there] = NOBODY, bucket[there], head
            high = max(high, there)
        if 0 < there < lowest:
            arc = first + index(place) if tree == 1 else sister_of(head, place, first, degree, sisters)
            if residual[arc] > 0:
                lowest, chosen = there, place
    return lowest, chosen, high
