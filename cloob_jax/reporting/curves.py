"""All metrics of all runs as curves, the important ones first."""

import math
import re
from collections.abc import Sequence

import numpy as np

from cloob_jax.reporting import chart
from cloob_jax.reporting.markup import Html, element, folded, join
from cloob_jax.reporting.metric_lines import Series
from cloob_jax.reporting.reading import Run

# Title, names in the order in which they are shown, and whether at once.
_GROUPS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    (
        "Loss and quality",
        ("train/loss", "val/.*zeroshot-val-top1", "val/.*_R@1", "val/.*lp_acc1"),
        True,
    ),
    (
        "Optimisation",
        ("train/lr", "train/grad_norm.*", "train/inv_tau", "train/param_norm"),
        True,
    ),
    (
        "Speed",
        (
            "train/samples_per_second",
            "train/data_wait_fraction",
            "train/mfu",
            ".*goodput.*",
        ),
        True,
    ),
    ("More of training", ("train/.*",), False),
    ("More of validation", ("val/.*",), False),
    ("Other metrics", (".*",), False),
)
_ONCE = "Measured once"
_SHARES = re.compile(r"(top\d+|R@\d+|recall|fraction|mfu|goodput|acc\d+)(?![a-z\d])")
_UNITS = {"train/samples_per_second": "images/s"}
# Metrics whose way down to 0 or up from it is what they are looked at for.
_LINEAR = ("train/lr", "train/samples_per_second")
_MOST_CHARTS = 400
_MOST_POINTS, _FEWEST_POINTS = 400, 40  # of a curve
_PAGE_POINTS = 50_000  # of all curves, some 12 bytes each, twice where smoothed


def draw(runs: Sequence[Run]) -> Html:
    """The charts by group; empty where there is nothing to draw."""
    by_examples = _differ_in_batch(runs)
    groups: dict[str, list[Html]] = {title: [] for title, *_ in _GROUPS}
    groups[_ONCE] = []
    lines = {name: _lines(name, runs, by_examples) for name in _names(runs)}
    count = sum(map(len, lines.values()))
    most = min(max(_PAGE_POINTS // max(count, 1), _FEWEST_POINTS), _MOST_POINTS)
    x_label = "pairs seen" if by_examples else "step"
    for name in sorted(lines, key=_order)[:_MOST_CHARTS]:
        if not lines[name]:
            continue
        title = _GROUPS[_order(name)[0]][0]
        is_curve = any(np.isfinite(line.y).sum() > 1 for line in lines[name])
        percent = is_share(name)
        figure = chart.draw(
            name,
            lines[name],
            x_label,
            unit=_UNITS.get(name, ""),
            log=False if percent or name in _LINEAR else None,
            percent=percent,
            most_points=most,
        )
        groups[title if is_curve else _ONCE].append(figure)
    shown = {title for title, _, is_shown in _GROUPS if is_shown}
    parts = [_group(title, some, title in shown) for title, some in groups.items()]
    if empty := [name for name, some in lines.items() if not some]:
        words = f"Without any finite value: {', '.join(empty[:_MOST_CHARTS])}."
        parts.append(element("p", words, class_="said"))
    if len(lines) > _MOST_CHARTS:
        left = len(lines) - _MOST_CHARTS
        parts.append(element("p", f"{left} more metrics are left out."))
    return join([_introduction(runs, by_examples), *parts]) if count else Html()


def is_share(name: str) -> bool:
    """Whether a metric or figure is between 0 and 1, and told in percent."""
    return _SHARES.search(name) is not None


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.series))


def _order(name: str) -> tuple[int, int, str]:
    """By group, by the place of the first expression that fits, by name."""
    for group, (_, patterns, _) in enumerate(_GROUPS):
        for place, pattern in enumerate(patterns):
            if re.fullmatch(pattern, name, re.DOTALL):
                return group, place, name
    raise AssertionError  # the last group takes all


def _differ_in_batch(runs: Sequence[Run]) -> bool:
    """Whether equal steps of different runs come after different numbers of pairs."""
    sizes = [
        float(series.examples[-1] / series.steps[-1])
        for run in runs
        for series in run.series.values()
        if series.steps[-1] > 0
    ]
    sizes = [size for size in sizes if math.isfinite(size) and size > 0]
    return bool(sizes) and max(sizes) > 1.01 * min(sizes)


def _lines(name: str, runs: Sequence[Run], by_examples: bool) -> list[chart.Line]:
    found = []
    for number, run in enumerate(runs):
        series = run.series.get(name)
        if series is None:
            continue
        x, y = _ascending(series) if by_examples else (series.steps, series.values)
        if np.isfinite(y).any():
            found.append(chart.Line(number, run.name, x, y))
    return found


def _ascending(series: Series) -> tuple[np.ndarray, np.ndarray]:
    there = np.isfinite(series.examples)
    x, y = series.examples[there], series.values[there]
    order = np.argsort(x, kind="stable")
    return x[order], y[order]


def _introduction(runs: Sequence[Run], by_examples: bool) -> Html:
    words = "Logarithmic where the range is large. "
    if by_examples:
        words += "Over pairs seen, since batches differ in size. "
    words += (
        "Where there are more than 200 values, the faint line shows them and the other "
        "one their mean over a fiftieth of them. Legends hold the last value itself."
    )
    hint = element("span", " Point at a chart to read its lines.", class_="script")
    return element("p", words, hint, class_="said")


def _group(title: str, figures: Sequence[Html], is_shown: bool) -> Html:
    if not figures:
        return Html()
    grid = element("div", *figures, class_="charts")
    if is_shown:
        return join([element("h3", title), grid])
    return folded(
        f"{title} ({len(figures)})", element("h3", title, class_="unseen"), grid
    )
