"""What a check comes to: facts, findings that have a fix, and the limits between."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

# From where on something is a finding: shares, where nothing else is said.
LIMITS = {
    # Of captions that lose their end: alt-texts rarely do, descriptions often.
    "truncated": 0.1,
    # Of captions with tags: more is a page that was cut up badly.
    "html": 0.01,
    # One and the same caption, such as "image": in a batch its pairs are negatives of
    # each other, 1 % being 40 of 4,096.
    "common_caption": 0.01,
    # Images that are enlarged for training: some are in every set.
    "small": 0.1,
    # Images at least twice as large as training needs: decoding them costs four times.
    "large": 0.25,
    # Images with copies: some are in every set, more are placeholders or a second copy.
    "repeated_image": 0.01,
    # How often a caption or an image has to come up in the sample to be no accident.
    "least_repeats": 5,
    # Records that a run may replace before it stops: config.data.max_bad_fraction.
    "max_bad_fraction": 0.01,
    # From how many records on a run looks at that share.
    "bad_among": 1000,
    # Of the median shard: less is no shard, unless it is the last.
    "nearly_empty": 0.05,
}


@dataclasses.dataclass(frozen=True)
class Fact:
    """Something to know: its name, one line for people, and the numbers in it."""

    name: str
    text: str
    numbers: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something to mend.

    Attributes:
      name: of what it is.
      count: of the records, captions or files that have it.
      text: how much that is, for people.
      fix: a command or a config field, in a line.
      examples: the first of them, a line each.
    """

    name: str
    count: int
    text: str
    fix: str
    examples: list[str] = dataclasses.field(default_factory=list)


Found = Iterator[Fact | Finding]
Where = Callable[[int], str]  # from a record to its shard and key


def of(count: int, total: int) -> str:
    """Such as `12 of 4,096 (0.29 %)`."""
    return f"{count:,} of {total:,} ({percent(count / max(total, 1))})"


def percent(share: float) -> str:
    """With about two digits."""
    value = 100 * float(share)
    return f"{value:.0f} %" if value in (0, 100) or value >= 10 else f"{value:.2g} %"
