"""Evaluations side by side: the latest of each run, with intervals, and its best."""

from collections.abc import Sequence

from cloob_jax.reporting import axes, curves, overview
from cloob_jax.reporting.markup import Html, element, folded, join, table
from cloob_jax.reporting.reading import Result, Run

# CLIP_benchmark's figures that people ask for first, and what people call them.
_HEADLINES = {
    "acc1": "top-1",
    "text_retrieval_recall@1": "image to text R@1",
    "image_retrieval_recall@1": "text to image R@1",
    "lp_acc1": "linear probe top-1",
}
# Ends of an interval, as the evaluators call them.
_LOW, _HIGH = "_ci95_low", "_ci95_high"

_Key = tuple[str, str, str]  # data set, task, figure


def draw(runs: Sequence[Run]) -> Html:
    """A table of the headlines, and one of everything; empty where there is nothing."""
    found = [_by_figure(run.results) for run in runs]
    keys = sorted({key for some in found for key in some})
    if not keys:
        return Html()
    first = [key for key in keys if key[2] in _HEADLINES]
    words = (
        "The latest of each run with its 95 % interval, over pictures, not over "
        "training runs; below it the best, where another step was better."
    )
    if len(runs) > 1:
        words += " Bold is the best of a row."
    said = element("p", words, class_="said")
    parts = [said, _table(first, runs, found)] if first else [said]
    if len(keys) > len(first):
        parts.append(folded(f"All figures ({len(keys)})", _table(keys, runs, found)))
    return join(parts)


def _by_figure(results: Sequence[Result]) -> dict[_Key, list[tuple[Result, float]]]:
    """Each figure's values by step; of several results for a step the last counts."""
    latest = {(r.step, r.dataset, r.task): r for r in results}
    found: dict[_Key, list[tuple[Result, float]]] = {}
    for result in latest.values():
        for name, value in result.figures.items():
            if not name.endswith((_LOW, _HIGH)):
                key = result.dataset, result.task, name
                found.setdefault(key, []).append((result, value))
    return found


def _table(
    keys: Sequence[_Key],
    runs: Sequence[Run],
    found: Sequence[dict[_Key, list[tuple[Result, float]]]],
) -> Html:
    rows = []
    for dataset, task, figure in keys:
        values = [some.get((dataset, task, figure), []) for some in found]
        top = _best([v[-1][1] for v in values if v], figure)
        name = _HEADLINES.get(figure) or f"{figure}, {task}"
        cells = [_cell(v, figure, top if len(runs) > 1 else None) for v in values]
        rows.append([join([element("bdi", dataset), f" {name}"]), *cells])
    header = ["data set and figure", *map(overview.name, runs)]
    classes = [None, *(f"run-{number}" for number in range(len(runs)))]
    return table(header, rows, classes, "Evaluations")


def _cell(
    values: Sequence[tuple[Result, float]], figure: str, top: float | None
) -> Html:
    """The latest value with its interval, and below it the best one, if another."""
    if not values:
        return element("span", "-", class_="unit")
    percent = curves.is_share(figure)
    result, value = values[-1]
    tag = "b" if value == top else "span"
    lines: list[str] = [element(tag, axes.number(value, percent))]
    ends = [result.figures.get(figure + end) for end in (_LOW, _HIGH)]
    if None not in ends:
        low, high = (axes.number(end, percent) for end in ends if end is not None)
        lines.append(f" ({low.removesuffix(' %')} to {high.removesuffix(' %')})")
    best = _best([value for _, value in values], figure)
    words = f"step {result.step}"
    if best is not None and best != value:
        step = next(r.step for r, value in values if value == best)
        words += f"; best {axes.number(best, percent)} at {step}"
    lines.append(element("small", words))
    return join(lines)


def _best(values: Sequence[float], figure: str) -> float | None:
    """None where more is neither better nor worse."""
    if curves.is_share(figure) and not figure.endswith("_std"):
        return max(values)
    return min(values) if figure.endswith("_rank") and "retrieval" in figure else None
