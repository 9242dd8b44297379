"""Charts as SVG: panels under each other on one time axis, and curves. Colours are classes, so that the page has them.

Written by hand because a page of the drill must open anywhere, in light and dark, without a script or a font of others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, LEFT, RIGHT = 1080, 64, 150
PLOT = WIDTH - LEFT - RIGHT
GAP = 30  # between two panels; the title of the lower one stands in it
Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A line of a panel. `name` is written at its right end; empty: it has none."""

    points: Sequence[Point]
    style: str
    name: str = ""
    steps: bool = False


@dataclass(frozen=True)
class Bar:
    """A state from one moment to another."""

    row: str
    start: float
    end: float
    style: str
    said: str = ""


@dataclass(frozen=True)
class Mark:
    """A vertical line through all panels, with a number that the table of links explains."""

    at: float
    label: str
    said: str


@dataclass(frozen=True)
class Panel:
    """One quantity over time."""

    title: str
    height: float = 110
    curves: Sequence[Curve] = ()
    bars: Sequence[Bar] = ()
    rules: Sequence[tuple[float, str]] = ()  # horizontal lines: value and what it is
    unit: str = ""
    top: float | None = None  # value at the upper edge; None: of the data
    rows: Sequence[str] = field(default=())


def timeline(panels: Sequence[Panel], marks: Sequence[Mark], shades: Sequence[Bar], seconds: float) -> str:
    """Panels under each other, marks and shades through all of them."""
    seconds = max(seconds, 1.0)

    def x(at: float) -> float:
        return LEFT + min(max(at, 0), seconds) / seconds * PLOT

    rows_of_marks = _stagger([x(mark.at) for mark in marks])
    head = 24 + 18 * (max(rows_of_marks, default=0) + 1)
    parts: list[str] = []
    y: float = head
    tops = []
    for panel in panels:
        tops.append(y)
        y += panel.height + GAP
    bottom = y - GAP
    for shade in shades:
        parts.append(
            f'<rect class="{shade.style}" x="{x(shade.start):.1f}" y="{head:.1f}" '
            f'width="{max(0, x(shade.end) - x(shade.start)):.1f}" height="{bottom - head:.1f}">'
            f"<title>{escape(shade.said)}</title></rect>"
        )
    for at in ticks(seconds, 10):
        parts.append(f'<line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{head:.1f}" y2="{bottom:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x(at):.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{clock(at)}</text>'
        )
    for panel, top in zip(panels, tops, strict=True):
        parts += _panel(panel, top, x)
    for mark, row in zip(marks, rows_of_marks, strict=True):
        at, level = x(mark.at), 12 + 18 * row
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{level:.1f}" y2="{bottom:.1f}"/>')
        parts.append(
            f'<g><title>{escape(mark.said)}</title><circle class="badge" cx="{at:.1f}" cy="{level:.1f}" r="8.5"/>'
            f'<text class="number" x="{at:.1f}" y="{level + 3.5:.1f}" text-anchor="middle">{mark.label}</text></g>'
        )
    parts.append(
        f'<text class="tick" x="{LEFT + PLOT:.0f}" y="{bottom + 32:.1f}" text-anchor="end">'
        "time since the start, minutes:seconds</text>"
    )
    return _svg(WIDTH, bottom + 40, parts, "course of the drill over time")


def _panel(panel: Panel, top: float, x: Callable[[float], float]) -> list[str]:
    parts = [f'<text class="title" x="{LEFT}" y="{top - 8:.1f}">{escape(panel.title)}</text>']
    bottom = top + panel.height
    parts.append(f'<rect class="frame" x="{LEFT}" y="{top:.1f}" width="{PLOT}" height="{panel.height:.1f}"/>')
    if panel.rows:
        high = panel.height / len(panel.rows)
        for number, row in enumerate(panel.rows):
            middle = top + high * (number + 0.5)
            parts.append(f'<text class="name" x="{LEFT + PLOT + 8}" y="{middle + 4:.1f}">{escape(row)}</text>')
        for bar in panel.bars:
            y = top + high * panel.rows.index(bar.row) + high * 0.18
            wide = max(3.0, x(bar.end) - x(bar.start))
            parts.append(
                f'<rect class="{bar.style}" x="{x(bar.start):.1f}" y="{y:.1f}" width="{wide:.1f}" '
                f'height="{high * 0.64:.1f}" rx="2"><title>{escape(bar.said)}</title></rect>'
            )
        return parts
    values = [value for curve in panel.curves for _, value in curve.points] + [value for value, _ in panel.rules]
    most = panel.top or nice(max(values, default=1) or 1)

    def y_of(value: float) -> float:
        return bottom - min(max(value, 0), most) / most * panel.height

    for value in (0, most / 2, most):
        at = f'x="{LEFT - 6}" y="{y_of(value) + 4:.1f}"'
        parts.append(f'<text class="tick" {at} text-anchor="end">{short(value)}{panel.unit}</text>')
    for value, said in panel.rules:
        y = y_of(value)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{LEFT + PLOT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="name faint" x="{LEFT + PLOT + 8}" y="{y + 4:.1f}">{escape(said)}</text>')
    taken = [y_of(value) for value, _ in panel.rules]
    for curve in panel.curves:
        if not curve.points:
            continue
        parts.append(f'<path class="{curve.style}" d="{_path(curve, x, y_of)}"/>')
        if curve.name:
            y = _free(y_of(curve.points[-1][1]), taken, top, bottom)
            taken.append(y)
            parts.append(
                f'<text class="name of-{curve.style}" x="{LEFT + PLOT + 8}" y="{y + 4:.1f}">{escape(curve.name)}</text>'
            )
    return parts


def curves(title: str, lines: Sequence[Curve], width: float = 352, height: float = 220) -> str:
    """Milliseconds over percentiles, both so that the tail can be read: 90, 99, 99.9 are equally far apart."""
    left, right, top, bottom = 56, 12, 26, height - 34
    plot = width - left - right
    values = [value for line in lines for _, value in line.points if value > 0]
    low = 10 ** math.floor(math.log10(min(values, default=1)))
    high = 10 ** math.ceil(math.log10(max(values, default=10) * 1.001))

    def x(percentile: float) -> float:
        return left + min(-math.log10(max(1 - percentile / 100, 10**-4)), 4) / 4 * plot

    def y(value: float) -> float:
        return bottom - (math.log10(max(value, low)) - math.log10(low)) / math.log10(high / low) * (bottom - top)

    parts = [f'<text class="title" x="{left}" y="14">{escape(title)}</text>']
    parts.append(f'<rect class="frame" x="{left}" y="{top}" width="{plot}" height="{bottom - top}"/>')
    value = low
    while value <= high:
        parts.append(f'<line class="grid" x1="{left}" x2="{left + plot}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{short(value)} ms</text>'
        )
        value *= 10
    for percentile, said in ((0, "0"), (90, "90"), (99, "99"), (99.9, "99.9"), (99.99, "99.99 %")):
        parts.append(f'<line class="grid" x1="{x(percentile):.1f}" x2="{x(percentile):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{x(percentile):.1f}" y="{bottom + 16}" '
            f'text-anchor="{"end" if percentile > 99.9 else "middle"}">{said}</text>'
        )
    for line in lines:
        if line.points:
            path = " ".join(
                f"{'M' if not number else 'L'}{x(at):.1f},{y(value):.1f}"
                for number, (at, value) in enumerate(line.points)
            )
            parts.append(f'<path class="{line.style}" d="{path}"><title>{escape(line.name)}</title></path>')
    return _svg(width, height, parts, title)


def _path(curve: Curve, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    words, before = [], None
    for at, value in curve.points:
        if before is None:
            words.append(f"M{x(at):.1f},{y(value):.1f}")
        elif curve.steps:
            words.append(f"H{x(at):.1f}V{y(value):.1f}")
        else:
            words.append(f"L{x(at):.1f},{y(value):.1f}")
        before = at
    return "".join(words)


def _free(y: float, taken: Sequence[float], top: float, bottom: float) -> float:
    """A height near `y` where no other name stands."""
    for shift in (0, 13, -13, 26, -26, 39, -39):
        if top - 4 <= y + shift <= bottom + 4 and all(abs(y + shift - other) >= 12 for other in taken):
            return y + shift
    return y


def _stagger(places: Sequence[float]) -> list[int]:
    """A row for each mark, so that no two badges lie on each other."""
    ends: list[float] = []
    rows = []
    for place in places:
        row = next((number for number, end in enumerate(ends) if place - end >= 19), len(ends))
        if row == len(ends):
            ends.append(place)
        ends[row] = place
        rows.append(row)
    return rows


def ticks(seconds: float, most: int) -> list[float]:
    """Round moments, at most so many."""
    step = next((step for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800) if seconds / step <= most), 3600)
    return [float(at) for at in range(0, int(seconds) + 1, step)]


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def nice(value: float) -> float:
    """The next round number."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if value <= step * power * 1.0001)


def short(value: float) -> str:
    """A number as an axis has it."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _svg(width: float, height: float, parts: Sequence[str], said: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:.0f}" role="img" aria-label="{escape(said)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
