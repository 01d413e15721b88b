"""Numbers of README.md and docs/results.md from committed JSON: ``python -m docs.results [--check]``.

Between ``<!-- results:NAME -->`` and ``<!-- end -->`` stands what this program makes of
``benchmarks/results/NAME.json`` (see :mod:`benchmarks`) or of ``experiments/results/NAME_*.json``: the
``metrics.json`` of trainings, each under the name of its recipe; a picture ``NAME.png`` there is shown below
the table. No number there is written by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims import all_claims
from benchmarks.results_io import load
from benchmarks.table import markdown, origin

from flowcut.apps.output import mean_and_error

ROOT = Path(__file__).parent.parent
NOT_MEASURED = "*Not measured yet.*"
# The short form shows the verdicts, the long form everything.
FILES = {ROOT / "README.md": False, ROOT / "docs" / "results.md": True}
# Which of a claim's tables says whether it holds, where it is not the first.
_VERDICTS = {"growth": 1}
_BLOCK = re.compile(r"(<!-- results:(\w+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def block(name: str, full: bool, root: Path = ROOT) -> str:
    """What stands between the marks of one name.

    Raises
    ------
    ValueError
        ``name`` is neither a claim nor the name of trainings.
    """
    claims = all_claims()
    if name not in claims and name != "horses":
        raise ValueError(f"results:{name}: expected one of {', '.join([*claims, 'horses'])}, got {name}")
    if name == "horses":
        folder = root / "experiments" / "results"
        table = trainings(sorted(folder.glob(f"{name}_*.json")))
        picture = folder / f"{name}.png"
        place = f"{'../' if full else ''}experiments/results/{name}.png"
        return (
            f"{table}\n\n![Predictions without and with the head, its scores, edges and potentials]({place})"
            if picture.exists()
            else table
        )
    folder = root / "benchmarks" / "results"
    if not (folder / f"{name}.json").exists():
        return NOT_MEASURED
    return benchmark(claims[name], load(name, folder), full)


def benchmark(claim: Any, result: dict[str, Any], full: bool) -> str:
    """Tables and origin of one benchmark; the short form has its verdicts alone."""
    tables = claim.tables(result)
    first, *warnings = origin(result).split("\n\n")
    if not full:
        tables = [tables[min(_VERDICTS.get(result["claim"], 0), len(tables) - 1)]]
        machine = result["machine"]
        first = f"{result['date'][:10]}, {machine['processor']}, {machine['usable_cores']} cores."
    parts = []
    for heading, header, rows in tables:
        parts += [f"**{heading}**", markdown(header, rows)]
    return "\n\n".join(part for part in [*parts, first, *warnings] if part)


def trainings(files: Sequence[Path]) -> str:
    """One row a training: what its network reached on the test split and what it cost."""
    if not files:
        return NOT_MEASURED
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    header = [
        "recipe",
        "IoU",
        "accuracy",
        "figures a mask",
        "parameters",
        "s / epoch",
        "best epoch",
        "minutes",
    ]
    rows = [
        [
            name,
            mean_and_error(result["test"]["iou"]),
            mean_and_error(result["test"]["accuracy"]),
            mean_and_error(result["test"]["distinct_figures"], 1),
            f"{result['parameters']:,}",
            f"{result['seconds_per_epoch']:.1f}",
            f"{result['best_epoch']} of {result['epochs']}",
            f"{result['seconds_total'] / 60:.1f}",
        ]
        for name, result in results.items()
    ]
    counts = {result["test"]["iou"]["count"] for result in results.values()}
    origins = {_training_origin(result): None for result in results.values()}
    note = f"Mean ± standard error over {' or '.join(map(str, sorted(counts)))} test pictures. " + " ".join(
        origins
    )
    return f"{markdown(header, rows)}\n\n{note}"


def _training_origin(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{result['device']}, {result['threads']} threads; {versions}."


def fill(text: str, full: bool, root: Path = ROOT) -> str:
    """The text with every marked block made anew."""
    return _BLOCK.sub(lambda m: f"{m[1]}{block(m[2], full, root)}{m[3]}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the blocks, or with ``--check`` only tell which files are out of date."""
    parser = argparse.ArgumentParser(prog="python -m docs.results", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if out of date")
    options = parser.parse_args(arguments)
    stale = []
    for path, full in FILES.items():
        before = path.read_text(encoding="utf-8")
        after = fill(before, full)
        if after == before:
            continue
        stale.append(path.name)
        if not options.check:
            temporary = path.with_suffix(".part")
            temporary.write_text(after, encoding="utf-8")
            os.replace(temporary, path)
    print(
        "\n".join(f"{name}: {'out of date' if options.check else 'written'}" for name in stale)
        or "up to date"
    )
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
