"""Total variation exactly: divide and conquer on one flow that is never taken back; Numba.

A piece of the picture begins as a connected set of pixels that no open tie leaves. Let z = x - div f be what
the flow has made of the picture so far, and a the mean of z in the piece. Send the excess z - a to where
z < a as far as the ties allow (a maximum flow, :mod:`flowcut.kernels.max_flow_search`). Then let

    S be what excess that is left can reach,    T what can reach a lack that is left,    M the others.

All ties that lead down from S to M to T are full. S is {z* > a} and T is {z* < a} for the minimiser z*: the
full ties and the flow prove it, as cutting the picture at the level a is a minimum cut (Hochbaum 2001; facts
on thresholds of total variation: Chambolle 2005). So M is finished, with z* = a; the full ties stay full, and
the connected pieces of S and of T are independent problems, which begin with the flow that they have.

A tie that becomes full between two pieces is *closed*: FULL stands at the arc that goes down and EMPTY at its
sister, instead of what they can take. The direction is remembered there and never read off the values, which
rounding can turn around. A search takes no notice of closed ties, since both are less than 0.
"""

from __future__ import annotations

from typing import Any

from flowcut.kernels.jit import inner, jit
from flowcut.kernels.max_flow_net import arc_count, first_arc, head_of, index, sister_of
from flowcut.kernels.max_flow_search import search
from flowcut.kernels.max_flow_trees import LEVEL, NOBODY, ROOT, ROOTS, enlist

# What stands for the residual of a closed tie: at the arc that is full, at its sister; and where no tie is.
FULL, EMPTY, NO_TIE = -1.0, -2.0, -3.0
# What a node is after a search, from low to high, and after it has been put into a piece.
_LOW, _MIDDLE, _HIGH, _PLACED = 0, 1, 2, 8


@jit
def divide(net: Any, trees: Any, work: Any, room: int, tolerance: float, block: Any) -> int:
    """Number the blocks of equal value, (n,) int64 in any order; returns how many there are."""
    order, _, stack = work
    flags = trees[7]
    for i in range(len(block)):
        order[i], flags[room + i] = room + i, _HIGH
        trees[2][room + i], trees[3][room + i] = 0, NOBODY
    blocks, top = _part(0, len(block), 0, 0, net, trees, work, room, block)
    while top > 0:
        top -= 1
        first, last = stack[top, 0], stack[top, 1]
        _balance(order, first, last, trees[1])
        if _plant(order, first, last, tolerance, net, trees):
            search(net, trees)
        if not _classify(first, last, tolerance, net, trees, work):
            for i in range(first, last):
                flags[index(order[i])] = _MIDDLE
        else:
            _close(order, first, last, net, trees)
        for i in range(first, last):
            trees[2][index(order[i])], trees[3][index(order[i])] = 0, NOBODY
        blocks, top = _part(first, last, blocks, top, net, trees, work, room, block)
    return blocks


@inner
def _balance(order: Any, first: int, last: int, excess: Any) -> None:
    """Make the excess relative to its mean; twice, so that what is left of the sum is rounding."""
    for _ in range(2):
        total = 0.0
        for i in range(first, last):
            total += excess[index(order[i])]
        mean = total / (last - first)
        for i in range(first, last):
            excess[index(order[i])] -= mean


@inner
def _plant(order: Any, first: int, last: int, tolerance: float, net: Any, trees: Any) -> bool:
    """Send what neighbours can take directly; make roots of what is left. Whether there is any to send."""
    _, excess, level, parent, cursor, _, bucket, flags, lists, control = trees
    for i in range(first, last):
        node = index(order[i])
        cursor[node], flags[node] = 0, 0
        if excess[node] > tolerance:
            _hand_over(node, net, trees)
    control[:] = 0
    control[LEVEL], control[LEVEL + 1] = 1, 1
    for i in range(last - first + 3):
        bucket[i] = -1
    for i in range(first, last):
        node = index(order[i])
        if abs(excess[node]) > tolerance:
            tree = 0 if excess[node] > 0 else 1
            level[node], parent[node] = 1 - 2 * tree, ROOT
            control[ROOTS + tree] += 1
            enlist(node, tree, 1, flags, lists, control)
    return control[ROOTS] > 0 and control[ROOTS + 1] > 0


@inner
def _hand_over(node: Any, net: Any, trees: Any) -> None:
    """Send the excess of a node to its neighbours as far as they lack it."""
    degree, steps, starts, heads, sisters = net
    residual, excess = trees[0], trees[1]
    left, first = excess[node], first_arc(node, degree, starts)
    for place in range(arc_count(node, degree, starts)):
        arc = first + index(place)
        if residual[arc] > 0:
            head = head_of(node, place, first, steps, heads)
            amount = min(left, residual[arc], -excess[head])
            if amount > 0:
                residual[arc] -= amount
                residual[sister_of(head, place, first, degree, sisters)] += amount
                excess[head] += amount
                left -= amount
    excess[node] = left


@inner
def _classify(first: int, last: int, tolerance: float, net: Any, trees: Any, work: Any) -> bool:
    """Tell S, M and T apart; False if all the piece is one of them.

    If all is S, the excess is the rounding of a sum over the piece, and so for T: then all is M.
    """
    order, flags = work[0], trees[7]
    for i in range(first, last):
        flags[index(order[i])] = _MIDDLE
    high = _reach(_HIGH, first, last, tolerance, net, trees, work)
    low = _reach(_LOW, first, last, tolerance, net, trees, work)
    return high + low > 0 and max(high, low) < last - first


@inner
def _reach(kind: int, first: int, last: int, tolerance: float, net: Any, trees: Any, work: Any) -> int:
    """Mark what is left of excess (or of a lack), and what it can reach (what can reach it); how many."""
    degree, steps, starts, heads, sisters = net
    residual, excess, flags = trees[0], trees[1], trees[7]
    order, queue, _ = work
    sign = kind - _MIDDLE
    done, count = first, first
    for i in range(first, last):
        node = index(order[i])
        if sign * excess[node] > tolerance:
            flags[node], queue[count] = kind, order[i]
            count += 1
    while done < count:
        node = index(queue[done])
        done += 1
        begin = first_arc(node, degree, starts)
        for place in range(arc_count(node, degree, starts)):
            head = head_of(node, place, begin, steps, heads)
            arc = begin + index(place) if sign > 0 else sister_of(head, place, begin, degree, sisters)
            if residual[arc] > 0 and flags[head] == _MIDDLE:
                flags[head], queue[count] = kind, head
                count += 1
    return count - first


@inner
def _close(order: Any, first: int, last: int, net: Any, trees: Any) -> None:
    """Close all ties between S, M and T."""
    degree, steps, starts, heads, sisters = net
    residual, flags = trees[0], trees[7]
    for i in range(first, last):
        node = index(order[i])
        begin = first_arc(node, degree, starts)
        for place in range(arc_count(node, degree, starts)):
            arc = begin + index(place)
            if residual[arc] >= 0:
                head = head_of(node, place, begin, steps, heads)
                if flags[head] < flags[node]:
                    residual[arc] = FULL
                    residual[sister_of(head, place, begin, degree, sisters)] = EMPTY


@inner
def _part(
    first: int, last: int, blocks: int, top: int, net: Any, trees: Any, work: Any, room: int, block: Any
) -> tuple[int, int]:
    """Order nodes by connected pieces: those of M, and single nodes, are blocks; others are to be done."""
    degree, steps, starts, heads, _ = net
    residual, flags = trees[0], trees[7]
    order, queue, stack = work
    done, count = first, first
    for i in range(first, last):
        kind = flags[index(order[i])]
        if kind == _PLACED:
            continue
        start = count
        flags[index(order[i])], queue[count] = _PLACED, order[i]
        count += 1
        while done < count:
            node = index(queue[done])
            done += 1
            begin = first_arc(node, degree, starts)
            for place in range(arc_count(node, degree, starts)):
                if residual[begin + index(place)] >= 0:
                    head = head_of(node, place, begin, steps, heads)
                    if flags[head] != _PLACED:
                        flags[head], queue[count] = _PLACED, head
                        count += 1
        if kind == _MIDDLE or count - start == 1:
            for j in range(start, count):
                block[queue[j] - room] = blocks
            blocks += 1
        else:
            stack[top, 0], stack[top, 1] = start, count
            top += 1
    for i in range(first, last):
        order[i] = queue[i]
    return blocks, top
