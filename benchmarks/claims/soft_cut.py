"""Forward and backward of soft_cut on one large picture against other libraries, family by family."""

from __future__ import annotations

from typing import Any

from benchmarks import ours
from benchmarks.compare import Duel, compare_family, duel_rows, seconds_rows
from benchmarks.options import Options
from benchmarks.peers import all_peers

TITLE = "soft_cut forward + backward at 512²: 5 times faster on easy weights, never slower than a peer"
TARGETS = {"const10": 5.0, "soft3": 5.0, "cam10": 5.0}
NOT_SLOWER = 1.0
# The same solver as KLU, twice as slow: it has its place in the claim about Cholesky.
LEFT_OUT = ("KLU, factored twice", "torch_sparse_solve")


def run(options: Options) -> dict[str, Any]:
    """Every family in turn; all contenders of a family take turns."""
    side = options.side(512)
    peers, missing = all_peers(options.peers, without=LEFT_OUT)
    families = []
    for name in options.families:
        family = compare_family(name, (side, side), peers, ours.contenders, options.effort)
        families.append({**family, "duel": _duel(name, family)})
    return {"size": [side, side], "missing_peers": missing, "families": families}


def _duel(name: str, family: dict[str, Any]) -> dict[str, Any]:
    return Duel(
        ours=lambda contender: contender.startswith("flowcut"),
        theirs=lambda contender: not contender.startswith("flowcut"),
        target=TARGETS.get(name, NOT_SLOWER),
    ).judge(family["rows"])


def tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The verdicts, then everybody's seconds."""
    size = "×".join(map(str, result["size"]))
    return [
        (f"soft_cut against the best peer, forward + backward, {size}", *duel_rows(result["families"])),
        (f"Seconds, forward + backward, {size} (median)", *seconds_rows(result["families"])),
        (
            f"Seconds without the assembly of the peers' matrices, {size} (median)",
            *seconds_rows(result["families"], "seconds_without_assembly"),
        ),
    ]
