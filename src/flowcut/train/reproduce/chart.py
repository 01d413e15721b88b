"""Line charts without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = ["Chart", "Line", "draw_charts"]

Colour = tuple[int, int, int]
_INK, _GRID = (40, 40, 40), (225, 225, 225)
# Drawn larger and reduced, so that slanted lines are smooth.
_SCALE = 3
_SIZE = (380, 300)
# Room around the axes: left, top, right, bottom.
_ROOM = (52, 28, 12, 40)


@dataclass(frozen=True)
class Line:
    """One curve.

    Parameters
    ----------
    label : str
        In the legend.
    x, y : sequence of float
        Points; y > 0 where the chart is logarithmic.
    colour : tuple of int
        Red, green, blue, 0 to 255.
    width : float
        In pixels.
    dashed : bool
        Every other piece is left out.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: Colour
    width: float = 1.5
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes.

    Parameters
    ----------
    title, x_label : str
    lines : sequence of Line
        One or more, each with two points or more.
    logarithmic : bool
        Whether y is.
    """

    title: str
    x_label: str
    lines: Sequence[Line]
    logarithmic: bool = True


def draw_charts(charts: Sequence[Chart]) -> Tensor:
    """Draw charts side by side.

    Parameters
    ----------
    charts : sequence of Chart
        One or more.

    Returns
    -------
    Tensor
        (3, H, W) float32 in [0, 1], on white.

    Examples
    --------
    >>> line = Line("a", [0.0, 1.0], [1.0, 0.1], (0, 0, 200))
    >>> draw_charts([Chart("loss", "steps", [line])] * 2).shape
    torch.Size([3, 300, 760])
    """
    width, height = _SIZE[0] * len(charts), _SIZE[1]
    canvas = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
    pen = ImageDraw.Draw(canvas)
    for index, chart in enumerate(charts):
        _Axes(pen, chart, index * _SIZE[0]).draw()
    small = canvas.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small).astype(np.float32) / 255).movedim(-1, 0)


class _Axes:
    """One chart on the canvas; coordinates are in pixels of the finished picture."""

    def __init__(self, pen: ImageDraw.ImageDraw, chart: Chart, left: float) -> None:
        self.pen, self.chart = pen, chart
        self.left, self.right = left + _ROOM[0], left + _SIZE[0] - _ROOM[2]
        self.top, self.bottom = _ROOM[1], _SIZE[1] - _ROOM[3]
        xs = [x for line in chart.lines for x in line.x]
        ys = [y for line in chart.lines for y in line.y]
        self.x_range = (min(xs), max(max(xs), min(xs) + 1e-9))
        low, high = self.height(min(ys)), self.height(max(ys))
        room = 0.04 * (high - low) + 0.01
        self.y_range = (low - room, high + room)

    def height(self, y: float) -> float:
        return math.log10(y) if self.chart.logarithmic else y

    def draw(self) -> None:
        for value in _ticks(*self.x_range):
            x = self.place(value, self.chart.lines[0].y[0])[0]
            self.line([(x, self.top), (x, self.bottom)], _GRID, 1)
            self.text((x, self.bottom + 4), f"{value:g}", "ma")
        for value in (_decades if self.chart.logarithmic else _ticks)(*self.y_range):
            y = self.place(self.x_range[0], value)[1]
            self.line([(self.left, y), (self.right, y)], _GRID, 1)
            self.text((self.left - 5, y), f"{value:g}", "rm")
        corners = [(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)]
        self.line(corners, _INK, 1)
        for line in self.chart.lines:
            points = [self.place(x, y) for x, y in zip(line.x, line.y, strict=True)]
            self.curve(points, line)
        self.text((self.left, 8), self.chart.title, "la", 12)
        self.text(((self.left + self.right) / 2, self.bottom + 20), self.chart.x_label, "ma")
        self.legend()

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_range[0]) / (self.x_range[1] - self.x_range[0])
        up = (self.height(y) - self.y_range[0]) / (self.y_range[1] - self.y_range[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top)

    def curve(self, points: list[tuple[float, float]], line: Line) -> None:
        if not line.dashed:
            self.line(points, line.colour, line.width)
            return
        fine = _resample(points)
        for start in range(0, len(fine) - 1, 8):
            self.line(fine[start : start + 5], line.colour, line.width)

    def legend(self) -> None:
        """Upper right, where falling curves leave room; rising ones, of a linear axis, lower right."""
        lines = self.chart.lines
        font = _font(10)
        wide = max(font.getlength(line.label) for line in lines) / _SCALE
        high = 14 * len(lines)
        x = self.right - wide - 4
        y = self.top + 4 if self.chart.logarithmic else self.bottom - high - 6
        box = (x - 28, y - 2, self.right, y + 14 * len(lines) + 2)
        self.pen.rectangle([v * _SCALE for v in box], fill=(255, 255, 255), outline=_GRID)
        for index, line in enumerate(lines):
            middle = y + 14 * index + 7
            self.curve([(x - 24, middle), (x - 4, middle)], line)
            self.text((x, middle), line.label, "lm")

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
        self.pen.line(scaled, fill=colour, width=max(1, round(width * _SCALE)), joint="curve")

    def text(self, at: tuple[float, float], text: str, anchor: str, size: int = 10) -> None:
        place = (at[0] * _SCALE, at[1] * _SCALE)
        self.pen.text(place, text, fill=_INK, font=_font(size), anchor=anchor)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size * _SCALE)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where there are few."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    values = [f * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for f in factors]
    return [value for value in values if low <= math.log10(value) <= high]


def _resample(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points one pixel apart along the line."""
    fine = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        count = max(1, round(math.hypot(x1 - x0, y1 - y0)))
        fine += [(x0 + (x1 - x0) * i / count, y0 + (y1 - y0) * i / count) for i in range(1, count + 1)]
    return fine
