"""What a sample of records says of a data set."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from cloob_jax import metrics
from cloob_jax.preparation.findings import (
    LIMITS,
    Fact,
    Finding,
    Found,
    Where,
    of,
    percent,
)
from cloob_jax.preparation.sample import TRAITS, Sample

_CONVERT = "prepare arrayrecord SOURCE DEST"
_KIND_FIXES = {
    "missing image": "paths are relative to the table's folder: move it, or fetch them",
    "unreadable record": "a run stops there: look at the disk or the mount",
    "unforeseen error": "a run may stop there: leave these records out",
    "too many pixels": "a run replaces them: more than 89 million pixels are refused",
}


def bad_records(sample: Sample, num_faults: int, where: Where) -> Found:
    """Records that training would replace, by kind, and what share it has to allow.

    Args:
      sample: of the records.
      num_faults: what the index left out.
      where: names records.
    """
    is_bad = sample.rows["kind"] > 0
    _, high = _interval(sample, is_bad)
    if is_bad.any() and sample.total > LIMITS["bad_among"]:
        # A run looks at the share among the first records too, where it varies most.
        high += 3 * math.sqrt(high / LIMITS["bad_among"])
    needed = max(high, num_faults / (sample.total + num_faults))
    usual = LIMITS["max_bad_fraction"]
    allowed = f"config.data.max_bad_fraction={_rounded_up(max(needed, usual)):g}"
    count = int(is_bad.sum())
    left_out = f", {num_faults:,} left out" if num_faults else ""
    yield Fact(
        "bad records",
        f"{of(count, len(is_bad))}{left_out}; {allowed} "
        + ("will do" if needed <= usual else "is needed"),
        {"count": count, "left_out": num_faults, "max_bad_fraction": needed},
    )
    goes_on = "a run replaces them" if needed <= usual else allowed
    usual_fix = f"{goes_on}; {_CONVERT} leaves them out"
    if 2 * count > len(is_bad):
        usual_fix = "is SOURCE the right one? Most of it cannot be used"
    for code, kind in enumerate(sample.kinds[1:], start=1):
        has_it = sample.rows["kind"] == code
        low, high = _interval(sample, has_it)
        text = f"{of(int(has_it.sum()), len(has_it))} records"
        if not sample.is_whole:
            text += f"; of all {percent(low)} to {percent(high)} (95 %)"
        yield Finding(
            kind,
            int(has_it.sum()),
            text,
            _KIND_FIXES.get(kind, usual_fix),
            [f"{where(r)}: {why}" if why else where(r) for r, why in sample.bad[kind]],
        )


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
    cut, tagged = tokens > context_length, rows["has_html"]
    several = f"{number.min()} to {number.max()}" if np.ptp(number) else f"{number[0]}"
    yield Fact(
        "captions",
        f"{several} a record; {median} tokens at the median, 95 % have at most {most}; "
        f"{percent(cut.mean())} are cut at {context_length}",
        {"tokens": {"median": median, "95%": most}, "truncated": float(cut.mean())},
    )
    if cut.mean() > LIMITS["truncated"]:
        yield _finding(
            "truncated captions",
            cut,
            f"lose what is past {context_length} tokens",
            f"config.model.context_length={most}, or shorter captions",
            [where(int(record)) for record in rows["record"][cut][:2]],
        )
    if tagged.mean() > LIMITS["html"]:
        yield _finding(
            "HTML in captions",
            tagged,
            "hold tags such as <br>",
            "take them out before the data set is made",
            [
                f'{where(record)}: "{text_of(record)}"'
                for record in rows["record"][tagged][:2].tolist()
            ],
        )
    yield from _common_captions(rows, text_of)


def _common_captions(rows: np.ndarray, text_of: Where) -> Iterator[Finding]:
    _, first, group, counts = np.unique(rows["caption"], True, True, True)
    limit = LIMITS["common_caption"]
    least = max(LIMITS["least_repeats"], limit * len(rows))
    common = [n for n in np.argsort(-counts, kind="stable") if counts[n] >= least]
    if common:
        texts = [text_of(int(rows["record"][first[n]])) for n in common[:3]]
        shares = [percent(counts[n] / len(rows)) for n in common[:3]]
        yield _finding(
            "repeated captions",
            np.isin(group, common),
            f"have a text that {percent(limit)} or more share",
            "leave these pairs out of the list that is downloaded",
            [f'{share} "{text}"' for share, text in zip(shares, texts, strict=True)],
        )


def images(sample: Sample, image_size: int) -> Found:
    """Their sizes and formats; `image_size` is that of the training crop, in pixels."""
    rows = sample.good
    if not len(rows):
        return
    short = np.minimum(rows["width"], rows["height"])
    low, median, high = np.quantile(short, [0.05, 0.5, 0.95]).round().astype(int)
    size = float(np.median(rows["num_bytes"]))
    yield Fact(
        "images",
        f"short side {median} px at the median, {low} to {high} in 90 %; "
        f"{size / 1000:,.1f} kB at the median",
        {"short_side": {"5%": int(low), "median": int(median), "95%": int(high)}}
        | {"median_bytes": size},
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
        fits = np.quantile(short, LIMITS["small"], method="lower")
        yield _finding(
            "small images",
            small,
            f"are enlarged to train at {image_size} px",
            f"config.data.image_size={fits}, or larger images",
        )
    if large.mean() > LIMITS["large"]:
        yield _finding(
            "large images",
            large,
            f"have twice {image_size} px or more, which costs time at each epoch",
            f"{_CONVERT} --resize={round(image_size * 8 / 7)}",
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
    text = f"{of(count, len(rows))} are there more than once"
    if not sample.is_whole:
        text += f"; about {copies:.2g} copies of each in the whole"
    yield Fact("repeats", text, numbers)
    is_chance = count < LIMITS["least_repeats"]
    if max(repeated.mean(), copies) > LIMITS["repeated_image"] and not is_chance:
        often = np.argsort(-counts, kind="stable")[:3]
        records = [rows["record"][group == n].tolist() for n in often if counts[n] > 1]
        yield Finding(
            "repeated images",
            count,
            f"{text}; {same:,} with the same caption",
            "leave the copies out of the list that is downloaded",
            [f"{len(r):,} times: {where(r[0])}, {where(r[1])}" for r in records],
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


def _finding(
    name: str, has_it: np.ndarray, text: str, fix: str, examples: Sequence[str] = ()
) -> Finding:
    count = int(has_it.sum())
    return Finding(name, count, f"{of(count, len(has_it))} {text}", fix, list(examples))


def _rounded_up(share: float) -> float:
    """To two digits."""
    if share <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return min(1.0, math.ceil(share / unit - 1e-9) * unit)
