"""What a sample of records says of a data set: facts, and findings that have a fix."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cloob_jax import metrics
from cloob_jax.preparation.sample import TRAITS, Sample

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
_KIND_FIXES = {
    "missing image": "paths are relative to the table's folder: move it, or fetch them",
    "unreadable record": "a run stops there: look at the disk or the mount",
    "unforeseen error": "a run may stop there: leave these records out",
    "too many pixels": "a run replaces them: more than 89 million pixels are refused",
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


def bad_records(sample: Sample, num_faults: int, where: Where, leave_out: str) -> Found:
    """Records that training would replace, by kind, and what share it has to allow.

    Args:
      sample: of the records.
      num_faults: what the index left out.
      where: names records.
      leave_out: the command that leaves them out.
    """
    is_bad = sample.rows["kind"] > 0
    _, high = _interval(sample, is_bad)
    # The share among the first records, where it varies most, has to be allowed too.
    high += 3 * math.sqrt(high / LIMITS["bad_among"]) if is_bad.any() else 0
    needed = max(high, num_faults / (sample.total + num_faults))
    is_enough = needed <= LIMITS["max_bad_fraction"]
    allowed = f"config.data.max_bad_fraction={_rounded_up(needed):g}"
    count = int(is_bad.sum())
    yield Fact(
        "bad records",
        f"{of(count, len(sample.rows))}; "
        + ("config.data.max_bad_fraction=0.01 will do" if is_enough else allowed),
        {"count": count, "max_bad_fraction": needed},
    )
    for code, kind in enumerate(sample.kinds[1:], start=1):
        has_it = sample.rows["kind"] == code
        low, high = _interval(sample, has_it)
        text = f"{of(int(has_it.sum()), len(has_it))} records"
        if not sample.is_whole:
            text += f", 95 %: {percent(low)} to {percent(high)}"
        goes_on = "a run replaces them" if is_enough else allowed
        fix = _KIND_FIXES.get(kind, f"{goes_on}; {leave_out} leaves them out")
        examples = [f"{where(r)}: {reason}" for r, reason in sample.bad[kind]]
        yield Finding(kind, int(has_it.sum()), text, fix, examples)


def captions(
    sample: Sample, context_length: int, where: Where, text_of: Where
) -> Found:
    """Their number, length and repetitions, as training draws them.

    Args:
      sample: of the records.
      context_length: tokens, start and end included.
      where: names records.
      text_of: the caption of a record.
    """
    rows = sample.good
    if not len(rows):
        return
    tokens, number = rows["num_tokens"], rows["num_captions"]
    median, most = np.quantile(tokens, [0.5, 0.95]).round().astype(int).tolist()
    cut = tokens > context_length
    several = f"{number.min()} to {number.max()}" if np.ptp(number) else f"{number[0]}"
    yield Fact(
        "captions",
        f"{several} a record; {median} tokens at the median, 95 % have at most {most}; "
        f"{percent(cut.mean())} are cut at {context_length}",
        {"tokens": {"median": median, "95%": most}, "truncated": float(cut.mean())},
    )
    if cut.mean() > LIMITS["truncated"]:
        yield Finding(
            "truncated captions",
            int(cut.sum()),
            f"{of(int(cut.sum()), len(rows))} lose what follows {context_length} tokens",
            f"config.model.context_length={most}, or shorter captions",
            [where(int(record)) for record in rows["record"][cut][:2]],
        )
    tagged = rows["has_html"]
    if tagged.mean() > LIMITS["html"]:
        yield Finding(
            "HTML in captions",
            int(tagged.sum()),
            f"{of(int(tagged.sum()), len(rows))} hold tags such as <br>",
            "strip them before the data set is made",
            [_quoted(r, where, text_of) for r in rows["record"][tagged][:2]],
        )
    values, first, counts = np.unique(
        rows["caption"], return_index=True, return_counts=True
    )
    least = max(LIMITS["least_repeats"], LIMITS["common_caption"] * len(rows))
    common = [place for place in np.argsort(-counts, kind="stable")]
    common = [place for place in common if counts[place] >= least]
    if common:
        total = int(counts[common].sum())
        yield Finding(
            "repeated captions",
            total,
            f"{of(total, len(rows))} have one of {len(common)} texts; in a batch their "
            "pairs are negatives of each other",
            "leave these out of the list that is downloaded",
            [
                f'{percent(counts[place] / len(rows))}: "'
                f'{text_of(int(rows["record"][first[place]]))}"'
                for place in common[:3]
            ],
        )


def images(sample: Sample, image_size: int, convert: str) -> Found:
    """Their sizes and formats.

    Args:
      sample: of the records.
      image_size: of the training crop, in pixels.
      convert: the command that can resize them.
    """
    rows = sample.good
    if not len(rows):
        return
    short = np.minimum(rows["width"], rows["height"])
    low, median, high = np.quantile(short, [0.05, 0.5, 0.95]).round().astype(int)
    size = np.median(rows["num_bytes"])
    yield Fact(
        "images",
        f"short side {median} px at the median, {low} to {high} in 90 %; "
        f"{size / 1000:,.1f} kB at the median",
        {"short_side": {"5%": int(low), "median": int(median), "95%": int(high)}}
        | {"median_bytes": float(size)},
    )
    numbers = {
        name: int((rows["traits"] >> bit & 1).sum()) for bit, name in enumerate(TRAITS)
    }
    numbers = {name: count for name, count in numbers.items() if count}
    formats = [
        f"{percent(count / len(rows))} {name}" for name, count in numbers.items()
    ]
    yield Fact("formats", ", ".join(formats), numbers)
    small, large = short < image_size, short >= 2 * image_size
    if small.mean() > LIMITS["small"]:
        yield Finding(
            "small images",
            int(small.sum()),
            f"{of(int(small.sum()), len(rows))} are enlarged to train at {image_size}",
            f"config.data.image_size={np.quantile(short, 0.1, method='lower')}, "
            "or larger images",
        )
    if large.mean() > LIMITS["large"]:
        yield Finding(
            "large images",
            int(large.sum()),
            f"{of(int(large.sum()), len(rows))} have twice {image_size} pixels or more, "
            "which costs time at each epoch",
            f"{convert} --resize={round(image_size * 8 / 7)}",
        )


def repeats(sample: Sample, where: Where) -> Found:
    """Images that occur more than once, byte for byte."""
    rows = sample.good
    if not len(rows):
        return
    _, group, counts = np.unique(rows["image"], return_inverse=True, return_counts=True)
    repeated = counts[group] > 1
    pair = rows["image"] ^ (rows["caption"] * np.uint64(0x9E3779B97F4A7C15))
    _, pair_group, pair_counts = np.unique(
        pair, return_inverse=True, return_counts=True
    )
    count, same = int(repeated.sum()), int((pair_counts[pair_group] > 1).sum())
    copies = _copies(sample, group)
    numbers = {"count": count, "with_caption": same, "copies": copies}
    text = f"{of(count, len(rows))} images occur more than once"
    if not sample.is_whole:
        text += f"; about {copies:.2g} copies of each in the whole"
    yield Fact("repeats", text, numbers)
    if count < LIMITS["least_repeats"]:
        return
    if max(repeated.mean(), copies) > LIMITS["repeated_image"]:
        often = np.argsort(-counts, kind="stable")[:3]
        records = [rows["record"][group == g].tolist() for g in often if counts[g] > 1]
        yield Finding(
            "repeated images",
            count,
            f"{text}; {same} of them with the same caption",
            "leave the copies out of the list that is downloaded",
            [f"{len(r)} times: {where(r[0])}, {where(r[1])}" for r in records],
        )


def _copies(sample: Sample, group: np.ndarray) -> float:
    """How many other copies a record has on average, in the whole source.

    Neighbours are all seen; of other pairs the sample sees as many as chance lets it.
    """
    records = sample.good["record"]
    run = np.cumsum(np.diff(records, prepend=records[0]) > 1)
    everywhere = _num_pairs(group)
    beside = _num_pairs(run * (int(group.max()) + 1) + group)
    elsewhere = (everywhere - beside) * sample.total / len(sample.rows)
    return 2 * (beside + elsewhere) / len(records)


def _num_pairs(group: np.ndarray) -> int:
    _, counts = np.unique(group, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _interval(sample: Sample, has_it: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a share in the whole source; the share, if all were seen."""
    share = float(has_it.mean())
    if sample.is_whole:
        return share, share
    records = sample.rows["record"]
    run = np.cumsum(np.diff(records, prepend=records[0]) > 1)
    low, high = metrics.interval(has_it, clusters=run)
    # What was not met at all in n may still be 3 / n.
    return low, max(high, 3 / len(has_it))


def _quoted(record: Any, where: Where, text_of: Where) -> str:
    return f'{where(int(record))}: "{text_of(int(record))}"'


def _rounded_up(share: float) -> float:
    """To two digits."""
    if share <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return min(1.0, math.ceil(share / unit - 1e-9) * unit)


def of(count: int, total: int) -> str:
    """Such as `12 of 4,096 (0.29 %)`."""
    return f"{count:,} of {total:,} ({percent(count / max(total, 1))})"


def percent(share: float) -> str:
    """With about two digits."""
    value = 100 * float(share)
    return f"{value:.0f} %" if value in (0, 100) or value >= 10 else f"{value:.2g} %"
