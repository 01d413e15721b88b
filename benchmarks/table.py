"""Saved results as Markdown: ``python -m benchmarks.table [name ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims import all_claims
from benchmarks.machine import was_busy
from benchmarks.results_io import RESULTS, load


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table; text to the left, everything else to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines if header)


def origin(result: dict[str, Any]) -> str:
    """Where and with what a result was measured, and what was missing."""
    machine = result["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items() if v != "not installed")
    text = (
        f"{result['date'][:10]}, {machine['processor']}, {machine['usable_cores']} cores, "
        f"{machine['torch_threads']} threads, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}; {versions}."
    )
    share = result.get("others_share_of_processor")
    if was_busy(share):
        text += f"\n\n**Other programs took {share:.0%} of the processor: do not quote these times.**"
    if result.get("missing_peers"):
        text += "\n\nNot installed: " + ", ".join(result["missing_peers"]) + "."
    return text


def render(claim: Any, result: dict[str, Any]) -> str:
    """Title, origin and tables of one result."""
    parts = [f"## {claim.TITLE}", origin(result)]
    for heading, header, rows in claim.tables(result):
        parts += [f"### {heading}", markdown(header, rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables of the claims asked for, by default of all that have a result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("names", nargs="*", help="claims; default: every one with a saved result")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    options = parser.parse_args(arguments)
    claims = all_claims()
    unknown = [name for name in options.names if name not in claims]
    if unknown:
        parser.error(f"names: expected some of {', '.join(claims)}, got {', '.join(unknown)}")
    names = options.names or [name for name in claims if (options.results / f"{name}.json").exists()]
    try:
        texts = [render(claims[name], load(name, options.results)) for name in names]
    except FileNotFoundError as error:
        parser.error(f"no result yet: {Path(error.filename).name}; run python -m benchmarks first")
    print("\n".join(texts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
