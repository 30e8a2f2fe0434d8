"""Curves as inline SVG, readable without any script."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cloob_jax.reporting import axes, thinning
from cloob_jax.reporting.markup import Html, element, join

# In units of the picture, which are about pixels; see `.chart svg` in page.css.
_WIDTH, _HEIGHT = 400, 230
_RIGHT, _TOP, _BOTTOM = 388, 12, 200
_LETTER = 6.8  # of an axis' labels, with what is left free
_FEW = 20  # points: each is marked


@dataclasses.dataclass(frozen=True)
class Line:
    """One run's curve.

    Attributes:
      run: its number on the page, which gives colour and dashes.
      name: of the run.
      x: ascending.
      y: likewise many, NaN where there is a gap.
      told: what the legend says of it; None: its last value.
    """

    run: int
    name: str
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    told: str | None = None


def draw(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    *,
    unit: str = "",
    log: bool | None = False,
    percent: bool = False,
    most_points: int = 400,
) -> Html:
    """A figure: heading, axes, curves, and a legend with the last values.

    Args:
      title: of the figure.
      lines: at least one, each with a finite value.
      x_label: what the x axis is.
      unit: of the values.
      log: see `axes.fit`.
      percent: see `axes.fit`.
      most_points: of one curve; long ones are thinned, with their extremes.
    """
    x_axis = axes.fit(np.concatenate([line.x for line in lines]), margin=0.0)
    y_axis = axes.fit(np.concatenate([line.y for line in lines]), log, percent)
    longest = max(len(label) for _, label in y_axis.ticks(5))
    box = _Box(x_axis, y_axis, max(46, round(18 + _LETTER * longest)))
    faint, strong = [], []
    for line in lines:
        below, above = _curves(line, box, most_points)
        faint.append(below)
        strong.append(above)
    svg = element(
        "svg",
        _frame(box, x_label),
        *faint,
        *strong,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{title} by {x_label}; the last values stand below",
        data_box=f"{box.left} {_TOP} {_RIGHT} {_BOTTOM}",
        data_x=f"{x_axis.low!r} {x_axis.high!r}",
        data_y=f"{y_axis.low!r} {y_axis.high!r}",
        data_log="" if y_axis.log else None,
        data_percent="" if percent else None,
        data_label=x_label,
    )
    notes = [note for note in (unit, "logarithmic" if y_axis.log else "") if note]
    heading = element(
        "figcaption",
        element("h4", title),
        element("span", ", ".join(notes), class_="unit"),
        element("span", "", class_="at"),
    )
    legend = element("ul", *(_entry(line, percent) for line in lines), class_="legend")
    return element("figure", heading, svg, legend, class_="chart")


def swatch() -> Html:
    """A piece of line in the colour and dashes of the run that it stands in."""
    stroke = element("path", d="M1,5 27,5", class_="line")
    return element(
        "svg", stroke, viewBox="0 0 28 10", class_="swatch", aria_hidden="true"
    )


def _entry(line: Line, percent: bool) -> Html:
    there = line.y[np.isfinite(line.y)]
    missing = len(line.y) - len(there)
    gaps = f" ({missing} not finite)" if missing and line.told is None else ""
    return element(
        "li",
        swatch(),
        element("bdi", line.name, class_="name"),
        Html(" "),
        element("b", line.told or axes.number(float(there[-1]), percent)),
        gaps,
        class_=f"run-{line.run}",
    )


@dataclasses.dataclass(frozen=True)
class _Box:
    """Where in the picture values are drawn; `left` leaves room for the labels."""

    x_axis: axes.Axis
    y_axis: axes.Axis
    left: int

    def right(self, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return self.left + self.x_axis.place(x) * (_RIGHT - self.left)

    def down(self, y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return _BOTTOM - self.y_axis.place(y) * (_BOTTOM - _TOP)

    def points(
        self, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
    ) -> list[str | None]:
        """Places as `x,y`; None for gaps."""
        places = zip(self.right(x).tolist(), self.down(y).tolist(), strict=True)
        return [f"{a:.1f},{b:.2f}" if np.isfinite(b) else None for a, b in places]


def _frame(box: _Box, x_label: str) -> Html:
    """Grid, ticks and their labels."""
    grid, labels = [f"M{box.left},{_BOTTOM} {_RIGHT},{_BOTTOM}"], []
    for value, label in box.y_axis.ticks(5):
        y = box.down(np.array([value]))[0]
        grid.append(f"M{box.left},{y:.1f} {_RIGHT},{y:.1f}")
        place = {"x": f"{box.left - 6}", "y": f"{y + 4:.1f}"}
        labels.append(element("text", label, **place, class_="y"))
    for value, label in box.x_axis.ticks(4):
        x = box.right(np.array([value]))[0]
        grid.append(f"M{x:.1f},{_BOTTOM} {x:.1f},{_BOTTOM + 4}")
        # The label of the axis takes the right end.
        if x < _RIGHT - _LETTER * (len(x_label) + len(label) / 2 + 1):
            labels.append(element("text", label, x=f"{x:.1f}", y=f"{_BOTTOM + 18}"))
    end = {"x": f"{_RIGHT}", "y": f"{_BOTTOM + 18}"}
    labels.append(element("text", x_label, **end, class_="y"))
    return join([element("path", d="".join(grid), class_="grid"), *labels])


def _curves(line: Line, box: _Box, most_points: int) -> tuple[Html, Html]:
    """What lies below, the values where there are many, and above, the curve."""
    width = thinning.window(len(line.y))
    smoothed = line.y if width == 1 else thinning.smooth(line.y, width)
    group = f"run-{line.run}"

    def path(y: Float[np.ndarray, " n"], kind: str) -> Html:
        kept = thinning.keep(line.x, y, most_points)
        return element(
            "path", d=_connected(box.points(line.x[kept], y[kept])), class_=kind
        )

    above = [path(smoothed, "line")]
    if len(line.y) <= _FEW:
        dots = "".join(f"M{point}h0" for point in box.points(line.x, line.y) if point)
        above.append(element("path", d=dots, class_="dots"))
    below = "" if width == 1 else path(line.y, "faint")
    return (
        element("g", below, class_=group) if below else Html(),
        element("g", *above, class_=group),
    )


def _connected(points: Sequence[str | None]) -> str:
    """The path through points that are not divided by a gap."""
    pieces = " ".join(point or "|" for point in points).split("|")
    found = [piece.split() for piece in pieces]
    # A point alone is drawn as a line to itself, which round caps make visible.
    return "".join("M" + " ".join(p if len(p) > 1 else 2 * p) for p in found if p)
