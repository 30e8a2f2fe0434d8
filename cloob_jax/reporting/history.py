"""What runs went through: what their time went into, bad steps, last words."""

from collections.abc import Sequence
from typing import Any

from cloob_jax import sessions, writers
from cloob_jax.reporting import axes, overview
from cloob_jax.reporting.markup import Html, element, folded, join, table
from cloob_jax.reporting.reading import Run
from cloob_jax.sessions import Session

_MOST_SESSIONS, _MOST_BAD_STEPS, _MOST_RECORDS = 100, 50, 200
_WORDS = {
    "step": "steps (goodput)",
    "data": "waiting for data",
    "exchange": "agreeing with other processes",
    "save": "saving",
    "evaluate": "evaluating",
    "start": "starting",
    "redone": "steps lost by kills",
    "down": "no process there",
}


def time_spent(runs: Sequence[Run]) -> Html:
    """Bars of what the time went into, and the sessions; empty where none are known."""
    known = [(number, run) for number, run in enumerate(runs) if run.sessions]
    if not known:
        return Html()
    spent = {number: sessions.shares(run.sessions) for number, run in known}
    parts = [part for part in _WORDS if any(part in s for s in spent.values())]
    others = {part for shares in spent.values() for part in shares} - set(parts)
    parts += sorted(others)
    header = ["run", "share of the time", *(_WORDS.get(p, p) for p in parts)]
    rows: list[list[str]] = []
    for number, run in known:
        shares = spent[number]
        cells = [axes.number(shares.get(part, 0.0), True) for part in parts]
        rows.append([overview.key(number, run), _bar(shares, parts), *cells])
    said = element(
        "p", "Of the whole time since a run was first started.", class_="said"
    )
    tables = [_sessions_table(number, run) for number, run in known]
    keys = [
        element("li", _patch(place), f" {_WORDS.get(part, part)}")
        for place, part in enumerate(parts)
        if any(shares.get(part, 0.0) > 0 for shares in spent.values())
    ]
    legend = element("ul", *keys, class_="legend")
    page = table(header, rows, caption="Share of the time by what it was spent on")
    return join([said, legend, page, *tables])


def _patch(place: int) -> Html:
    rect = element("rect", width="12", height="12", class_=_part_class(place))
    return element("svg", rect, viewBox="0 0 12 12", class_="patch", aria_hidden="true")


def _part_class(place: int) -> str:
    # Parts that the page has no colour for, of a later version, share the last one.
    return f"part-{min(place, len(_WORDS) - 1)}"


def _bar(shares: dict[str, float], parts: Sequence[str]) -> Html:
    """Parts of one bar, one after the other."""
    rects, start = [], 0.0
    for place, part in enumerate(parts):
        width = 100 * shares.get(part, 0.0)
        if width > 0:
            rects.append(
                element(
                    "rect",
                    x=f"{start:.2f}",
                    width=f"{width:.2f}",
                    height="10",
                    class_=_part_class(place),
                )
            )
        start += width
    return element(
        "svg",
        *rects,
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        class_="bar",
        role="img",
        aria_label="the shares in the columns to the right, as a bar",
    )


def _sessions_table(number: int, run: Run) -> Html:
    header = ["session", "began", "lasted", "steps", "ended", "devices", "host"]
    shown = run.sessions[-_MOST_SESSIONS:]
    rows = [_session_row(session, session is shown[-1]) for session in shown]
    page = table(header, rows, caption=f"Sessions of {run.name}")
    words = f": {_count(run.sessions, shown)} sessions"
    heading = join([overview.name(run), words])
    return element("div", folded(heading, page), class_=f"run-{number}")


def _count(there: Sequence[Any], shown: Sequence[Any]) -> str:
    return (
        f"the last {len(shown)} of {len(there)}"
        if len(shown) < len(there)
        else f"{len(there)}"
    )


def _session_row(session: Session, is_last: bool) -> list[str]:
    steps = f"{session.first_step} to {session.last_step}"
    ended = str(session.ended or ("running or killed" if is_last else "killed"))
    if session.message:
        ended += f": {session.message}"
    devices = f"{session.devices} {session.device_kind}"
    if session.processes != 1:
        devices += f" in {session.processes} processes"
    lasted = writers.duration(max(session.seen - session.began, 0.0))
    began = overview.moment(session.began)
    return [
        str(session.number),
        began,
        lasted,
        steps,
        ended,
        devices,
        str(session.host),
    ]


def bad_steps(runs: Sequence[Run]) -> Html:
    """Steps that were left out or stood out, with their records; empty if none."""
    return join(
        _bad_steps_of(number, run) for number, run in enumerate(runs) if run.bad_steps
    )


def _bad_steps_of(number: int, run: Run) -> Html:
    shown = run.bad_steps[-_MOST_BAD_STEPS:]
    rows = [
        [
            str(row.get("step", "-")),
            str(row.get("reason", "-")),
            _metrics(row.get("metrics")),
            _records(row.get("records")),
        ]
        for row in shown
    ]
    words = f": {_count(run.bad_steps, shown)} bad steps"
    header = ["step", "why", "metrics", "records"]
    page = table(header, rows, caption=f"Bad steps of {run.name}")
    heading = element("h3", overview.name(run), words)
    return element("div", heading, page, class_=f"run-{number}")


def _metrics(found: Any) -> str:
    if not isinstance(found, dict):
        return "-"
    return ", ".join(f"{name} {value}" for name, value in found.items())


def _records(found: Any) -> Html | str:
    if not isinstance(found, list) or not found:
        return "-"
    lines = [str(record) for record in found[:_MOST_RECORDS]]
    if len(found) > len(lines):
        lines.append(f"and {len(found) - len(lines)} more")
    return folded(f"{len(found)} records", element("pre", "\n".join(lines)))


def logs(runs: Sequence[Run]) -> Html:
    """The last lines of each log, folded; empty if there are none."""
    return join(
        element(
            "div",
            folded(
                join([overview.name(run), f": the last {len(run.log)} lines"]),
                element("pre", "\n".join(run.log), tabindex="0"),
            ),
            class_=f"run-{number}",
        )
        for number, run in enumerate(runs)
        if run.log
    )
