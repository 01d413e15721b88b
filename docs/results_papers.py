"""Tables of the three papers from committed JSON, for ``python -m docs.results``.

``experiments/results/NAME.json`` is what ``flowcut reproduce NAME --publish`` writes. On the page of its
paper, between ``<!-- results:NAME -->`` and ``<!-- end -->``, stands what :func:`block` makes of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.table import markdown

ROOT = Path(__file__).parent.parent
NOT_MEASURED = "*Not measured yet.*"
# The page of an experiment, by how its name begins.
PAGES = {
    "laf_": ROOT / "docs" / "experiments_laf.md",
    "raf_": ROOT / "docs" / "experiments_raf.md",
    "experiment-": ROOT / "docs" / "experiments_softcut.md",
    "softcut_": ROOT / "docs" / "experiments_softcut.md",
    "hippocampus": ROOT / "docs" / "experiments_softcut.md",
    "refine": ROOT / "docs" / "refine.md",
    "scribbles": ROOT / "docs" / "scribbles.md",
}
PREFIX = tuple(PAGES)


def names(prefix: str = "", root: Path = ROOT) -> list[str]:
    """The names of blocks: one for each experiment, of one paper or of all."""
    found = sorted((root / "experiments").glob(f"{prefix}*.yaml"))
    return [path.stem for path in found if path.stem.startswith(PREFIX)]


def block(name: str, root: Path = ROOT) -> str:
    """What stands between the marks of one name: the paper beside ours, a picture, the origin.

    Raises
    ------
    ValueError
        There is no experiment of that name.
    """
    known = names(root=root)
    if name not in known:
        raise ValueError(f"results:{name}: expected one of {', '.join(known)}, got {name}")
    folder = root / "experiments" / "results"
    if not (folder / f"{name}.json").exists():
        return NOT_MEASURED
    result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    parts = [f"The paper: {result['paper']}"] if result["paper"] else []
    for one in result.get("tables", []):
        parts += [f"**{one['heading']}**", markdown(one["header"], one["cells"])]
    if result["rows"]:
        parts.append(table(result))
    if (folder / f"{name}.png").exists():
        parts.append(f"![{result['title']}](../experiments/results/{name}.png)")
    return "\n\n".join([*parts, origin(result)])


def table(result: dict[str, Any]) -> str:
    """One row a number; the paper's column is left out where the paper gives none."""
    rows = result["rows"]
    if any(row["paper"] for row in rows):
        return markdown(["", "paper", "here"], [[row["what"], row["paper"], row["ours"]] for row in rows])
    return markdown(["", "here"], [[row["what"], row["ours"]] for row in rows])


def origin(result: dict[str, Any]) -> str:
    """Command, date, machine and versions."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    scale = "" if result["scale"] == "paper" else f" --scale {result['scale']}"
    return (
        f"`flowcut reproduce {result['experiment']}{scale}`, {result['date'][:10]}; {result['device']}, "
        f"torch with {result['threads']} threads; {versions}."
    )
