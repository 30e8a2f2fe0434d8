"""The runs in a table, and what their configs differ in."""

import datetime
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from cloob_jax import sessions
from cloob_jax.reporting import axes, chart
from cloob_jax.reporting.markup import Html, element, folded, join, table
from cloob_jax.reporting.reading import Run

_MISSING = element("span", "-", class_="unit")
_LONG = 160  # characters


def runs_table(runs: Sequence[Run]) -> Html:
    """One run a row: what it is, how far it is, how fast."""
    header = ["run", "model", "objective", "state", "step", "pairs seen", "loss"]
    header += ["images/s", "waiting for data", "goodput"]
    rows = [_row(number, run) for number, run in enumerate(runs)]
    said = element(
        "p",
        "The loss is the last; images a second and the share of time spent waiting for "
        "data are medians over the run.",
        class_="said",
    )
    return join([table(header, rows, caption="Runs"), said])


def _row(number: int, run: Run) -> list[str]:
    shares = sessions.shares(run.sessions)
    cells = [
        key(number, run),
        str(run.config.get("model.name", "-")),
        str(run.config.get("objective.name", "-")),
        state(run),
        _progress(run),
        _examples(run),
        _last(run, "train/loss"),
        _median(run, "train/samples_per_second"),
        _median(run, "train/data_wait_fraction", percent=True),
        axes.number(shares["step"], True) if run.sessions else "-",
    ]
    return [_MISSING if cell == "-" else cell for cell in cells]


def name(run: Run) -> Html:
    """A run's name, which is cut where it is long."""
    return element("bdi", run.name, class_="name", title=run.name)


def key(number: int, run: Run) -> Html:
    """A run's name beside a piece of its line."""
    return element("span", chart.swatch(), name(run), class_=f"key key-{number}")


def last_step(run: Run) -> float | None:
    """The last step of which there is a metric."""
    return max((float(s.steps[-1]) for s in run.series.values()), default=None)


def state(run: Run) -> str:
    """Whether a run has ended, and how, as far as one can know."""
    if run.sessions:
        last = run.sessions[-1]
        if last.ended is not None:
            # All may stand in a file; these are the words that the run writes.
            words = f"{last.ended}: {last.message}" if last.message else str(last.ended)
            return _shortened(words)
        return f"running or killed, last sign {moment(last.seen)}"
    step, total = last_step(run), run.config.get("total_steps")
    if step is None:
        return "no metrics yet"
    return "finished" if step == total else "not finished"


def _shortened(words: str) -> str:
    return words if len(words) <= _LONG else f"{words[:_LONG]}..."


def moment(seconds: float) -> str:
    """A time in words, in UTC.

    Args:
      seconds: since 1970.
    """
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _progress(run: Run) -> str:
    step, total = last_step(run), run.config.get("total_steps")
    if step is None:
        return "-"
    return f"{step:,.0f}" + (f" of {total:,}" if isinstance(total, int) else "")


def _examples(run: Run) -> str:
    counts = [s.examples[np.isfinite(s.examples)] for s in run.series.values()]
    seen = [float(some.max()) for some in counts if len(some)]
    return f"{max(seen):,.0f}" if seen else "-"


def _last(run: Run, metric: str) -> str:
    series = run.series.get(metric)
    return "-" if series is None else axes.number(float(series.values[-1]))


def _median(run: Run, metric: str, percent: bool = False) -> str:
    series = run.series.get(metric)
    if series is None or not np.isfinite(series.values).any():
        return "-"
    return axes.number(float(np.nanmedian(series.values)), percent)


def config(runs: Sequence[Run]) -> Html:
    """The fields that differ, and folded those that are the same; empty without any."""
    known = [number for number, run in enumerate(runs) if run.config]
    fields = sorted({field for number in known for field in runs[number].config})
    if not known:
        return Html()
    values = {f: [_value(runs[n].config, f) for n in known] for f in fields}
    differing = [field for field in fields if len(set(values[field])) > 1]
    common = [field for field in fields if field not in differing]
    parts: list[Html] = []
    if differing:
        header = ["field", *(name(runs[number]) for number in known)]
        classes = [None, *(f"run-{number}" for number in known)]
        rows = [[_field(f), *values[f]] for f in differing]
        parts.append(table(header, rows, classes, "Fields that differ"))
    elif len(known) > 1:
        parts.append(element("p", "All fields are the same.", class_="said"))
    if common:
        rows = [[_field(f), values[f][0]] for f in common]
        what = "All fields" if len(known) == 1 else "Fields that are the same"
        page = table(["field", "value"], rows, caption=what)
        parts.append(folded(f"{what} ({len(common)})", page))
    return join(parts)


def _field(field: str) -> Html:
    return element("code", field)


def _value(fields: dict[str, Any], field: str) -> str:
    if field not in fields:
        return _MISSING
    value = fields[field]
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return words if len(words) <= _LONG else folded(_shortened(words), words)
