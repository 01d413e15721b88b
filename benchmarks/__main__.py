"""``python -m benchmarks [name ...]``: measure, save JSON, print the tables."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help="claims to measure; default: all")
    parser.add_argument("--list", action="store_true", help="say what there is and stop")
    parser.add_argument("--size", type=int, help="side of the pictures (growth: the largest side)")
    parser.add_argument("--families", nargs="+", help="weight families; default: all ten")
    parser.add_argument("--peers", nargs="+", default=[], help="peers by name; default: all installed")
    parser.add_argument("--repeats", type=int, nargs=2, default=(3, 15), metavar=("LEAST", "MOST"))
    parser.add_argument("--seconds", type=float, default=1.0, help="after LEAST, stop at so much time")
    parser.add_argument("--patience", type=float, default=3.0, help="stop even before LEAST at so much time")
    parser.add_argument("--deadline", type=float, default=4.0, help="longest solve of an iterative peer")
    parser.add_argument("--threads", type=int, help="threads of everyone; default: all cores")
    parser.add_argument("--output", type=Path, help="folder of the JSON files; default: benchmarks/results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the claims one after another, saving each as soon as it is done."""
    chosen = parse(arguments)
    # Libraries read these when they are loaded, so nothing numerical is imported above.
    if chosen.threads:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(chosen.threads)))
    # For NumPy's and SciPy's short vectors a second BLAS thread never helps, and where anything
    # else runs, waiting for it makes float64 dot products ten times slower: the peers' best is one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from benchmarks.claims import all_claims
    from benchmarks.families import FAMILIES
    from benchmarks.harness import Effort
    from benchmarks.machine import OthersWatch, stamp
    from benchmarks.options import Options
    from benchmarks.peers import all_peers
    from benchmarks.results_io import RESULTS, load, save
    from benchmarks.table import render

    # Once PARDISO has run, BLAS calls of libraries loaded later end in MKL with other
    # threads, which slows CHOLMOD. So everybody is loaded, with its own BLAS, before anybody runs.
    all_peers()
    claims = all_claims()
    if chosen.list:
        print("\n".join(f"{name:10s} {claim.TITLE}" for name, claim in claims.items()))
        return 0
    families = tuple(chosen.families or FAMILIES)
    for kind, asked, known in (("names", chosen.names, claims), ("families", families, FAMILIES)):
        unknown = [name for name in asked if name not in known]
        if unknown:
            print(f"{kind}: expected some of {', '.join(known)}, got {', '.join(unknown)}", file=sys.stderr)
            return 2
    effort = Effort(tuple(chosen.repeats), chosen.seconds, chosen.patience, chosen.deadline)
    options = Options(chosen.size, families, tuple(chosen.peers), effort)
    for name in chosen.names or claims:
        start, others = time.perf_counter(), OthersWatch()
        origin = {"claim": name, "title": claims[name].TITLE, **stamp()}
        result = {**origin, **claims[name].run(options)}
        result["took_seconds"] = time.perf_counter() - start
        result["others_share_of_processor"] = others.share()
        save(result, chosen.output or RESULTS)
        print(render(claims[name], load(name, chosen.output or RESULTS)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
