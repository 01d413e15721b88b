"""Tables of the LAF paper's figures from committed JSON, for :mod:`docs.results`.

``experiments/results/laf_NAME.json`` is what ``flowcut reproduce laf_NAME --publish`` writes. Between
``<!-- results:laf_NAME -->`` and ``<!-- end -->`` stands what :func:`block` makes of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.table import markdown

ROOT = Path(__file__).parent.parent
NOT_MEASURED = "*Not measured yet.*"
PREFIX = "laf_"


def names(root: Path = ROOT) -> list[str]:
    """The names of blocks: one for each experiment of the LAF paper."""
    return [path.stem for path in sorted((root / "experiments").glob(f"{PREFIX}*.yaml"))]


def block(name: str, root: Path = ROOT) -> str:
    """What stands between the marks of one name: the paper beside ours, a picture, the origin.

    Raises
    ------
    ValueError
        There is no experiment of that name.
    """
    if name not in names(root):
        raise ValueError(f"results:{name}: expected one of {', '.join(names(root))}, got {name}")
    folder = root / "experiments" / "results"
    if not (folder / f"{name}.json").exists():
        return NOT_MEASURED
    result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    parts = [f"The paper: {result['paper']}", table(result)]
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
    return (
        f"`flowcut reproduce {result['experiment']}`, {result['date'][:10]}; {result['device']}, "
        f"torch with {result['threads']} threads; {versions}."
    )


def fill(text: str, root: Path = ROOT) -> str:
    """The text with the blocks of this file made anew; others are left as they are."""
    for name in names(root):
        start, end = f"<!-- results:{name} -->\n", "\n<!-- end -->"
        if start in text:
            before, rest = text.split(start, 1)
            text = before + start + block(name, root) + end + rest.split(end, 1)[1]
    return text
