"""What commands print: tables for people; lines on standard error where standard output is for JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

__all__ = ["format_table", "mean_and_error", "show"]


def show(text: str, *, json: bool) -> None:
    """Print a result for people, on standard error where standard output holds JSON.

    Parameters
    ----------
    text : str
    json : bool
        Whether ``--json`` was given.
    """
    print(text, file=sys.stderr if json else sys.stdout, flush=True)


def mean_and_error(score: Mapping[str, float | int | None], digits: int = 3) -> str:
    """Write a score as ``mean ± standard error``.

    Parameters
    ----------
    score : mapping
        ``mean`` and ``standard_error``, either None where it is not known.
    digits : int
        Decimals.

    Returns
    -------
    str

    Examples
    --------
    >>> mean_and_error({"mean": 0.5, "standard_error": 0.25})
    '0.500 ± 0.250'
    """
    if score["mean"] is None:
        return "-"
    text = f"{score['mean']:.{digits}f}"
    return text if score["standard_error"] is None else f"{text} ± {score['standard_error']:.{digits}f}"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns, the first to the left and the others to the right.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
        As many cells each as the header has.

    Returns
    -------
    str

    Examples
    --------
    >>> print(format_table(["what", "n"], [["a", "10"]]))
    what   n
    ----  --
    a     10
    """
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]

    def align(line: Sequence[str]) -> str:
        cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([align(header), "  ".join("-" * w for w in widths), *map(align, rows)])
