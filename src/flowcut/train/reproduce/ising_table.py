"""The rows of RAF Table 1 and of its larger sisters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flowcut.train.reproduce.experiment import Row, percent
from flowcut.train.reproduce.judge import Numbers, spread

__all__ = ["PRINTED", "Table", "table_rows"]

# What the paper prints in Table 1.
PRINTED = {
    "mean_field": {"kl": "1.974", "energy": "-1.57", "entropy": "1.60", "difference": "0.198"},
    "paper": {"kl": "0.599", "energy": "-1.98", "entropy": "2.56", "difference": "0.090"},
}
_MEASURES = {
    "kl": ("KL", 3),
    "energy": ("energy", 2),
    "entropy": ("entropy", 2),
    "difference": ("marginal difference", 4),
}
# Where more than this is unseen, the entropy of a sample is too low to be quoted without saying so.
_UNSEEN = 0.01
# Weights with a larger tail index say neither log Z nor how wrong they are.
_HEAVY = 0.7


@dataclass(frozen=True)
class Table:
    """What is compared.

    Attributes
    ----------
    exact
        ``log_z``, ``energy`` and ``entropy`` of the law.
    numbers
        By model, of each seed.
    labels
        What rows call the models.
    printed
        What the paper prints, by model and measure.
    fits
        Seconds by model, of each seed.
    timed
        Other seconds.
    """

    exact: Mapping[str, float]
    numbers: Mapping[str, Sequence[Numbers]]
    labels: Mapping[str, str]
    printed: Mapping[str, Mapping[str, str]]
    fits: Mapping[str, Sequence[float]]
    timed: Mapping[str, float]


def table_rows(table: Table) -> tuple[Row, ...]:
    """One measure after the other, so that models can be compared.

    Parameters
    ----------
    table : Table

    Returns
    -------
    tuple of Row

    Examples
    --------
    >>> one = {"kl": 0.05, "energy": -1.5, "entropy": 3.6, "difference": 0.01}
    >>> numbers = {"paper": [{**one, "kl": 0.6}, {**one, "kl": 0.7}]}
    >>> exact = {"log_z": 5.1, "energy": -1.5, "entropy": 3.6}
    >>> rows = table_rows(Table(exact, numbers, {"paper": "the paper's"}, PRINTED, {}, {}))
    >>> rows[0].what, rows[0].paper, rows[0].ours
    ("KL: the paper's", '0.599', '0.650 (0.600 to 0.700)')
    """
    rows = []
    for key, (title, digits) in _MEASURES.items():
        if key in table.exact:
            rows.append(Row(f"{title}: exact", "", f"{table.exact[key]:.{digits}f}"))
        for name, numbers in table.numbers.items():
            if key in numbers[0]:
                text = spread([one[key] for one in numbers], f"{{:.{digits}f}}".format)
                text = _qualified(key, text, numbers)
                printed = table.printed.get(name, {}).get(key, "")
                rows.append(Row(f"{title}: {table.labels[name]}", printed, text))
            if key == "kl" and "kl_lower" in numbers[0]:
                lower = spread([one["kl_lower"] for one in numbers], f"{{:.{digits}f}}".format)
                rows.append(Row(f"{title}: {table.labels[name]}, bound from below", "", lower))
    rows.append(
        Row("log Z: exact", "5.14, by its table" if table.printed else "", f"{table.exact['log_z']:.4f}")
    )
    return (*rows, *_weight_rows(table), *_gibbs_rows(table), *_time_rows(table))


def _weight_rows(table: Table) -> list[Row]:
    if "weighted" not in table.numbers:
        return []
    numbers = table.numbers["weighted"]
    log_z = ", ".join(f"{one['log_z']:.3f} ± {one['log_z_error']:.3f}" for one in numbers)
    share = spread([one["share"] for one in numbers], percent)
    tails = [one["pareto_k"] for one in numbers]
    heavy = [tail for tail in tails if tail is None or tail > _HEAVY]
    tail = f"{spread(tails, '{:.2f}'.format)}{': errors are not to be trusted' if heavy else ''}"
    return [
        Row(f"log Z: {table.labels['weighted']}", "", log_z),
        Row("weights: effective sample size, share of the draws", "", share),
        Row(f"weights: tail index (bad above {_HEAVY:g})", "", tail),
    ]


def _gibbs_rows(table: Table) -> list[Row]:
    if "gibbs" not in table.numbers:
        return []
    one = table.numbers["gibbs"][0]
    r_hat, size = one["r_hat"], one["effective_sample_size"]
    text = "-" if r_hat is None or size is None else f"{r_hat:.4f}, {size:,.0f}"
    rows = [Row("Gibbs: R-hat, effective sample size, worst pixel", "", text)]
    if size is not None and "Gibbs" in table.timed:
        rate = f"{size / table.timed['Gibbs']:,.0f}"
        rows.append(Row("independent labelings a second, Gibbs", "", rate, timed=True))
    return rows


def _time_rows(table: Table) -> list[Row]:
    rows = []
    for name, seconds in table.fits.items():
        printed = "21 min on a GPU" if name == "paper" and table.printed else ""
        text = f"{spread(seconds, '{:.1f}'.format)} s"
        rows.append(Row(f"fitting: {table.labels[name]}", printed, text, timed=True))
    for name, seconds_of_one in table.timed.items():
        if name.startswith("a labeling, "):
            what = name.replace("a labeling, ", "labelings a second, ")
            rows.append(Row(what, "", f"{1 / seconds_of_one:,.0f}", timed=True))
        else:
            rows.append(Row(f"seconds: {name}", "", f"{seconds_of_one:.2f}", timed=True))
    return rows


def _qualified(key: str, text: str, numbers: Sequence[Numbers]) -> str:
    """A sample that holds too few of its labelings twice has too little entropy, and says so."""
    most = max(one.get("unseen") or 0.0 for one in numbers)
    if key not in ("kl", "entropy") or most <= _UNSEEN:
        return text
    return f"at {'most' if key == 'kl' else 'least'} {text}, {percent(most)} never drawn"
