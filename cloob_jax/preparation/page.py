"""Facts and findings as people read them, and as JSON."""

import textwrap
from collections.abc import Sequence
from typing import Any

from cloob_jax.preparation.findings import Fact, Finding

_WIDTH = 100  # columns


def render(title: str, found: Sequence[Fact | Finding]) -> str:
    """The page: facts, and below them the findings, each with examples and its fix."""
    facts = [each for each in found if isinstance(each, Fact)]
    findings = [each for each in found if isinstance(each, Finding)]
    width = max((len(fact.name) for fact in facts), default=0) + 2
    lines = [_clean(title), ""]
    for fact in facts:
        lines += _wrapped(fact.name.ljust(width), fact.text, " " * width)
    lines += ["", f"{len(findings)} finding{'s' * (len(findings) != 1)}"]
    for number, finding in enumerate(findings, start=1):
        lines += ["", *_wrapped(f"{number}. {finding.name}: ", finding.text, "   ")]
        lines += [_cut(f"     {example}") for example in finding.examples]
        # Not wrapped: it is there to be copied.
        lines.append(f"   fix: {_clean(finding.fix)}")
    return "\n".join(lines)


def report(found: Sequence[Fact | Finding]) -> dict[str, Any]:
    """The same, to be written as JSON."""
    return {
        "facts": {each.name: each.numbers for each in found if isinstance(each, Fact)},
        "findings": [
            {
                "name": each.name,
                "count": each.count,
                "text": each.text,
                "fix": each.fix,
                "examples": each.examples,
            }
            for each in found
            if isinstance(each, Finding)
        ],
    }


def _wrapped(first: str, text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        first + _clean(text),
        _WIDTH,
        subsequent_indent=indent,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def _cut(line: str) -> str:
    line = _clean(line)
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


def _clean(text: str) -> str:
    # Names and captions may hold anything, escape sequences of terminals included.
    return "".join(c if c.isprintable() else " " for c in text)
