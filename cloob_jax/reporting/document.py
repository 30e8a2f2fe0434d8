"""The page: one file that loads nothing, whatever the runs are called."""

import base64
import hashlib
import importlib.resources
import time
from collections.abc import Sequence

from cloob_jax.reporting import curves, history, overview, scores, spectra
from cloob_jax.reporting.markup import Html, anchor, element, join, section
from cloob_jax.reporting.reading import Run, picture_size

_COLOURS, _DASHES = 6, ("none", "7 3", "2 3", "9 3 2 3", "4 2")


def page(runs: Sequence[Run], command: str) -> str:
    """The whole of it.

    Args:
      runs: at least one.
      command: by which the page can be made again.
    """
    title = "Run " + runs[0].name if len(runs) == 1 else f"{len(runs)} runs compared"
    made = overview.moment(time.time())
    parts = {
        "Runs": overview.runs_table(runs),
        "Notes": _notes(runs),
        "Config": overview.config(runs),
        "Curves": curves.draw(runs),
        "Evaluations": scores.draw(runs),
        "Spectra": spectra.draw(runs),
        "Samples": _samples(runs),
        "Time": history.time_spent(runs),
        "Bad steps": history.bad_steps(runs),
        "Log": history.logs(runs),
    }
    shown = {name: content for name, content in parts.items() if content}
    links = [element("a", name, href=f"#{anchor(name)}") for name in shown]
    body = [
        element("header", element("h1", title), element("p", f"As of {made}.")),
        element("nav", *links, aria_label="Sections"),
        _choice(runs),
        element("main", *(section(name, part) for name, part in shown.items())),
        element("footer", element("p", "Made by ", element("code", command))),
    ]
    return _document(title, body, _style(len(runs)), _resource("page.js"))


def _document(title: str, body: Sequence[Html], style: str, script: str) -> str:
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_digest(style)}; script-src {_digest(script)}"
    )
    head = [
        element("meta", charset="utf-8"),
        # Before what it rules. Quotes in it may stay as they are.
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Html(style)),
    ]
    whole = [
        element("head", *head),
        element("body", *body, element("script", Html(script))),
    ]
    return f"<!doctype html>\n{element('html', *whole, lang='en')}\n"


def _digest(content: str) -> str:
    """What a Content-Security-Policy allows just this style or script by."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _resource(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def _style(num_runs: int) -> str:
    """The style sheet, with each run's colour and dashes, and how it is hidden."""
    rules = [_resource("page.css")]
    for run in range(num_runs):
        ink, dash = f"var(--ink-{run % _COLOURS})", _DASHES[run % len(_DASHES)]
        rules.append(f".run-{run},.key-{run}{{--ink:{ink};--dash:{dash}}}\n")
        hidden = f"body:has(#show-{run}:not(:checked)) .run-{run}"
        rules.append(f"{hidden}{{display:none}}\n")
    return "".join(rules)


def _choice(runs: Sequence[Run]) -> Html:
    """Boxes by which runs are hidden, which needs no script; none for one run."""
    if len(runs) == 1:
        return Html()
    boxes = [
        element(
            "label",
            element("input", type="checkbox", id=f"show-{number}", checked=""),
            overview.key(number, run),
        )
        for number, run in enumerate(runs)
    ]
    legend = element("legend", "Runs shown", class_="unseen")
    return element("fieldset", legend, *boxes, class_="choice")


def _notes(runs: Sequence[Run]) -> Html:
    """What could not be read."""
    notes = [
        element("li", overview.name(run), f": {note}")
        for run in runs
        for note in run.notes
    ]
    if not notes:
        return Html()
    return join([element("p", "Not all could be read:"), element("ul", *notes)])


def _samples(runs: Sequence[Run]) -> Html:
    return join(
        _sample(number, run, run.picture)
        for number, run in enumerate(runs)
        if run.picture is not None
    )


def _sample(number: int, run: Run, picture: bytes) -> Html:
    width, height = picture_size(picture)
    image = element(
        "img",
        src=f"data:image/png;base64,{base64.b64encode(picture).decode()}",
        alt=f"Test pictures with their likeliest captions by {run.name}",
        width=str(width),
        height=str(height),
    )
    caption = element("figcaption", overview.name(run))
    return element("figure", caption, image, class_=f"sample run-{number}")
