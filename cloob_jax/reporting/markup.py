"""HTML out of text: whatever is not marked as HTML comes out as text."""

import html
import re
from collections.abc import Iterable, Sequence

_VOID = ("img", "input", "link", "meta")
# What HTML cannot hold or UTF-8 cannot write: control characters, halves of characters;
# and marks that turn the direction of what follows.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    "\u202a-\u202e\u2066-\u2069]"
)


class Html(str):
    """Text that is HTML already."""


def text(value: str) -> Html:
    """Any text, shown as it is; characters that a page cannot hold become U+FFFD."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(_UNFIT.sub("\ufffd", value)))


def element(tag: str, *content: str, **attributes: str | None) -> Html:
    """An element with what is in it.

    Args:
      tag: its name.
      *content: HTML, or text, which is escaped.
      **attributes: by name, `_` standing for `-` (`class_` for class); None: left out.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{join(content)}</{tag}>")


def join(parts: Iterable[str]) -> Html:
    """Parts one after the other."""
    return Html("".join(map(text, parts)))


def folded(summary: str, *content: str) -> Html:
    """Content that is shown when asked for."""
    return element("details", element("summary", summary), *content)


def section(title: str, *content: str) -> Html:
    """A part of the page under a heading, by which it can be linked to."""
    name = anchor(title)
    heading = element("h2", title, id=name)
    return element("section", heading, *content, aria_labelledby=name)


def anchor(title: str) -> str:
    """What a section's heading is linked by."""
    return re.sub("[^a-z]+", "-", title.lower())


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    classes: Sequence[str | None] | None = None,
    caption: str | None = None,
) -> Html:
    """A table in a box of its own that scrolls sideways.

    Args:
      header: of each column.
      rows: cells, the first of each row being its heading.
      classes: of each column's cells, such as `run-0`.
      caption: what is said of the table, for those who cannot see it.
    """
    kinds = classes or [None] * len(header)
    top = [
        element("th", h, scope="col", class_=k)
        for h, k in zip(header, kinds, strict=True)
    ]
    body = []
    for first, *others in rows:
        cells = [element("th", first, scope="row", class_=kinds[0])]
        pairs = zip(others, kinds[1:], strict=True)
        cells += [element("td", cell, class_=kind) for cell, kind in pairs]
        body.append(element("tr", *cells))
    whole = element(
        "table",
        element("thead", element("tr", *top)),
        element("tbody", *body),
        aria_label=caption,
    )
    # A box that scrolls has to be reached by the keyboard, and be called something.
    return element(
        "div",
        whole,
        class_="scrolls",
        tabindex="0",
        role="group",
        aria_label=caption or "table",
    )
