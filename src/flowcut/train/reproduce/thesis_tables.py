"""What the SoftCut thesis does and reports in its Experiments 2 to 11 (section 3, Tables 4 to 19)."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["THESIS", "THESIS_ATOL", "THESIS_PIXELS", "Numbers", "thesis_atol"]

# The thesis stops a whole batch when the sum of |r| is below 1e-6 b h w, with 32 tiles of 256 x 256: at 2.1.
THESIS_ATOL = 1e-6
THESIS_PIXELS = 32 * 256 * 256


def thesis_atol(pixels: int) -> float:
    """The residual of a pixel at which a batch of so many pixels stops at the sum where the thesis stops.

    As printed, the rule is a stricter one for a smaller batch of smaller pictures.

    Examples
    --------
    >>> thesis_atol(THESIS_PIXELS // 8)
    8e-06
    """
    return THESIS_ATOL * max(1.0, THESIS_PIXELS / pixels)


class Numbers(NamedTuple):
    """One row of a table of the thesis, standard errors in brackets.

    Attributes
    ----------
    iou, loss, figures
        Mean over the test pictures.
    time
        Of the training; the thesis gives it in Experiments 1 and 11 alone.
    """

    iou: str
    loss: str
    figures: str
    time: str = ""


_EXPERIMENT_2 = {
    "base": Numbers("0.432 (0.007)", "0.492 (0.008)", "1.51"),
    "submodular": Numbers("0.414 (0.008)", "0.519 (0.008)", "0.99"),
    "exact": Numbers("0.424 (0.008)", "0.505 (0.008)", "1.13"),
    "approximate": Numbers("0.479 (0.008)", "0.447 (0.008)", "1.26"),
}
_MAX_FLOW = {
    "submodular+max_flow": Numbers("0.402 (0.008)", "0.534 (0.008)", "0.88"),
    "approximate+max_flow": Numbers("0.488 (0.007)", "0.435 (0.008)", "1.47"),
}
_FOCAL = {
    "base/focal_dice": Numbers("0.453 (0.007)", "0.469 (0.008)", "2.05"),
    "submodular/focal_dice": Numbers("0.407 (0.008)", "0.528 (0.008)", "0.87"),
    "approximate/focal_dice": Numbers("0.489 (0.008)", "0.439 (0.008)", "1.21"),
}
# By number of the experiment, then by row as `rows` of an experiment names it.
THESIS: dict[int, dict[str, Numbers]] = {
    2: _EXPERIMENT_2,
    3: {
        "base": Numbers("0.451 (0.007)", "0.472 (0.008)", "2.15"),
        "submodular": Numbers("0.425 (0.008)", "0.505 (0.008)", "1.02"),
        "exact": Numbers("0.436 (0.008)", "0.493 (0.008)", "1.18"),
        "approximate": Numbers("0.478 (0.008)", "0.451 (0.008)", "1.11"),
    },
    4: {
        "base": Numbers("0.345 (0.007)", "0.581 (0.008)", "1.63"),
        "submodular": Numbers("0.356 (0.007)", "0.580 (0.008)", "0.91"),
        "approximate": Numbers("0.365 (0.007)", "0.564 (0.008)", "1.26"),
    },
    5: {
        "base": Numbers("0.845 (0.002)", "0.093 (0.002)", "1.31"),
        "submodular": Numbers("0.814 (0.003)", "0.117 (0.002)", "1.00"),
        "approximate": Numbers("0.854 (0.002)", "0.089 (0.002)", "1.02"),
    },
    6: {
        "base": Numbers("0.843 (0.002)", "0.094 (0.002)", "1.39"),
        "submodular": Numbers("0.803 (0.003)", "0.127 (0.002)", "1.00"),
        "approximate": Numbers("0.852 (0.002)", "0.091 (0.002)", "1.02"),
    },
    7: _EXPERIMENT_2 | _FOCAL,
    8: _EXPERIMENT_2 | _MAX_FLOW,
    9: _EXPERIMENT_2
    | _MAX_FLOW
    | _FOCAL
    | {"approximate/focal_dice+max_flow": Numbers("0.491 (0.007)", "0.433 (0.008)", "1.58")},
    10: {
        "base": Numbers("0.751 (0.003)", "0.167 (0.002)", "5.24"),
        "submodular": Numbers("0.742 (0.003)", "0.194 (0.002)", "2.35"),
        "approximate": Numbers("0.779 (0.003)", "0.161 (0.002)", "2.72"),
    },
    11: {
        "base": Numbers("0.591 (0.006)", "0.266 (0.005)", "62.1", "2 h 53 min"),
        "submodular": Numbers("0.564 (0.005)", "0.290 (0.006)", "54.0", "94 h 12 min"),
        "approximate": Numbers("0.620 (0.006)", "0.249 (0.005)", "29.5", "35 h 30 min"),
    },
}
