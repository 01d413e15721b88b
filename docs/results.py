"""Numbers of README.md and docs/results.md from committed JSON: ``python -m docs.results [--check]``.

Between ``<!-- results:NAME -->`` and ``<!-- end -->`` stands what this program makes of
``benchmarks/results/NAME.json`` (see :mod:`benchmarks`) or of ``experiments/results/NAME_*.json``: the
``metrics.json`` of trainings, each under the name of its recipe, or several of them for several seeds (see
``experiments/drive_isbi.py``); a picture ``NAME.png`` there is shown below the table. No number there is
written by hand.
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

from docs import results_papers
from flowcut.apps.output import mean_and_error

ROOT = Path(__file__).parent.parent
NOT_MEASURED = "*Not measured yet.*"
# The short form shows the verdicts, the long form everything.
FILES = {
    ROOT / "README.md": False,
    ROOT / "docs" / "results.md": True,
    **dict.fromkeys(results_papers.PAGES.values(), True),
}
# Which of a claim's tables says whether it holds, where it is not the first.
_VERDICTS = {"growth": 1}
# Trainings, and what the picture below their table shows.
TRAININGS = {
    "horses": "Predictions without and with the head, its scores, edges and potentials",
    "drive": "Vessels predicted without a head, with SoftCut and with a linear assignment flow",
    "isbi": "Membranes predicted without a head, with SoftCut and with a linear assignment flow",
}
_BLOCK = re.compile(r"(<!-- results:([\w-]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)


def block(name: str, full: bool, root: Path = ROOT) -> str:
    """What stands between the marks of one name.

    Raises
    ------
    ValueError
        ``name`` is neither a claim nor the name of trainings.
    """
    if name.startswith(results_papers.PREFIX):
        return results_papers.block(name, root)
    claims = all_claims()
    if name in TRAININGS:
        folder = root / "experiments" / "results"
        table = trainings(sorted(folder.glob(f"{name}_*.json")))
        place = f"{'../' if full else ''}experiments/results/{name}.png"
        shown = (folder / f"{name}.png").exists()
        return f"{table}\n\n![{TRAININGS[name]}]({place})" if shown else table
    if name not in claims:
        raise ValueError(f"results:{name}: expected one of {', '.join([*claims, *TRAININGS])}, got {name}")
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
    if any("runs" in result for result in results.values()):
        return seeds(results)
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


def seeds(results: dict[str, dict[str, Any]]) -> str:
    """One row a recipe that was trained with several seeds; and a row of who did not train, last."""
    trained = {name: result["runs"] for name, result in results.items() if "runs" in result}
    others = {name: [result] for name, result in results.items() if "runs" not in result}
    in_order = sorted(trained.items(), key=lambda item: item[1][0]["parameters"])
    rows = [_seeds_row(name, runs) for name, runs in [*in_order, *others.items()]]
    header = ["recipe", "IoU", "seeds", "accuracy", "figures a mask", "parameters", "s / epoch", "minutes"]
    runs = [run for runs in trained.values() for run in runs]
    epochs, counts, numbers = (
        " or ".join(str(n) for n in sorted(set(values)))
        for values in (
            (run["epochs"] for run in runs),
            (run["test"]["iou"]["count"] for run in runs),
            (len(made) for made in trained.values()),
        )
    )
    note = (
        f"Mean ± standard error over {counts} test pictures, both averaged over {numbers} seeds; under"
        f' "seeds" the lowest and the highest IoU of one. {epochs} epochs. '
    )
    return f"{markdown(header, rows)}\n\n{note}" + " ".join({_training_origin(run): None for run in runs})


def _seeds_row(name: str, runs: Sequence[dict[str, Any]]) -> list[str]:
    ious = [run["test"]["iou"]["mean"] for run in runs]
    row = [
        name,
        mean_and_error(_averaged(runs, "iou")),
        f"{min(ious):.3f}–{max(ious):.3f}" if len(ious) > 1 else "–",
        mean_and_error(_averaged(runs, "accuracy")),
        mean_and_error(_averaged(runs, "distinct_figures"), 1),
    ]
    if "parameters" not in runs[0]:
        return [*row, "–", "–", "–"]
    per_epoch, total = (
        sum(run[key] for run in runs) / len(runs) for key in ("seconds_per_epoch", "seconds_total")
    )
    return [*row, f"{runs[0]['parameters']:,}", f"{per_epoch:.1f}", f"{total / 60:.1f}"]


def _averaged(runs: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """Mean and standard error over pictures, both averaged over runs."""
    scores = [run["test"][metric] for run in runs]
    return {key: sum(score[key] for score in scores) / len(scores) for key in ("mean", "standard_error")}


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
