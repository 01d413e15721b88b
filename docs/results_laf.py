"""Tables of the LAF paper's figures from committed JSON: ``python -m docs.results_laf [--check]``.

``experiments/results/laf_NAME.json`` is what ``flowcut reproduce laf_NAME --publish`` writes. Between
``<!-- results:laf_NAME -->`` and ``<!-- end -->`` stands what :func:`block` makes of it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import markdown

from flowcut.core.atomic import atomic_write

ROOT = Path(__file__).parent.parent
NOT_MEASURED = "*Not measured yet.*"
PREFIX = "laf_"
PAGE = ROOT / "docs" / "experiments_laf.md"
_BLOCK = re.compile(r"(<!-- results:(laf_\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


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
    """The text with every marked block made anew."""
    return _BLOCK.sub(lambda m: f"{m[1]}{block(m[2], root)}\n{m[3]}", text)


def refresh(check: bool, page: Path = PAGE) -> list[str]:
    """Write the blocks, unless ``check``; returns the name of the page if it was out of date."""
    before = page.read_text(encoding="utf-8")
    after = fill(before)
    if after == before:
        return []
    if not check:
        with atomic_write(page) as file:
            file.write(after.encode())
    return [page.name]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the blocks, or with ``--check`` only tell whether the page is out of date."""
    parser = argparse.ArgumentParser(prog="python -m docs.results_laf", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if out of date")
    options = parser.parse_args(arguments)
    stale = refresh(options.check)
    print(f"{stale[0]}: {'out of date' if options.check else 'written'}" if stale else "up to date")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
