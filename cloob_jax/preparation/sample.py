"""Some records of a source, looked at one by one: what `check` knows of the contents.

A record becomes a row of a table of numbers, so that a hundred million of them would
fit in memory; names and texts are looked up again for those that are shown.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int

from cloob_jax.data import augment, random_crop
from cloob_jax.data.protocol import Source
from cloob_jax.tokenizer import Tokenizer

TRAITS = (
    *("JPEG", "PNG", "WEBP"),
    *("grey", "CMYK", "palette", "alpha", "16 bits", "animated", "turned by Exif"),
)
_ROW = np.dtype(
    [
        ("record", np.int64),
        ("kind", np.int16),  # why it is bad, a place in `Sample.kinds`; 0: it is not
        ("image", np.uint64),  # hash of the encoded image
        ("caption", np.uint64),  # hash of the caption that is drawn
        ("num_captions", np.int32),
        (
            "num_tokens",
            np.int32,
        ),  # of the caption that is drawn, start and end included
        ("has_html", np.bool_),
        ("width", np.int32),
        ("height", np.int32),
        ("num_bytes", np.int64),
        ("traits", np.int16),  # bits, see `TRAITS`
    ]
)
_NEIGHBOURS = 8  # read together: tells repeats beside each other, and is kind to disks
_TAGS = (
    "a|b|br|div|em|font|h[1-6]|i|img|li|p|script|span|strong|sub|sup|table|td|tr|u|ul"
)
_HTML = re.compile(rf"</?(?:{_TAGS})\b[^<>]*>", re.IGNORECASE)
_NUM_TASKS = 1000  # at most; progress is told after each
_EXAMPLES = 3  # kept of each kind of bad records


@dataclasses.dataclass
class Sample:
    """What was found in some records.

    Attributes:
      rows: structured array, a row a record, see `_ROW`, ascending by record.
      kinds: names of the kinds of bad records, `""` first.
      bad: kind -> the first records of it, with the reasons.
      total: records of the whole source.
    """

    rows: np.ndarray
    kinds: list[str]
    bad: dict[str, list[tuple[int, str]]]
    total: int

    @property
    def good(self) -> np.ndarray:
        """The rows that training can use."""
        return self.rows[self.rows["kind"] == 0]

    @property
    def is_whole(self) -> bool:
        """Whether it is all there is."""
        return len(self.rows) == self.total


def choose(total: int, at_most: int) -> Int[np.ndarray, " n"]:
    """Record numbers, ascending: neighbours at evenly spread places.

    Where in its stretch a place lies is random, and always the same; where two meet,
    the sample is a little smaller. Of less than twice as many, all.
    """
    length = min(_NEIGHBOURS, at_most)
    places = -(-at_most // length)
    if 2 * places * length >= total:
        return np.arange(total)
    edges = np.linspace(0, total, places + 1).astype(np.int64)
    starts = np.random.default_rng(0).integers(edges[:-1], edges[1:])
    return np.unique((starts[:, None] + np.arange(length)) % total)


def examine(
    source: Source,
    records: Int[np.ndarray, " n"],
    *,
    image_size: int,
    num_threads: int,
    report: Callable[[int, int], None],
) -> Sample:
    """Reads, decodes, crops and tokenises records as training does.

    Args:
      source: of the pairs.
      records: their numbers, ascending.
      image_size: of the training crop, in pixels.
      num_threads: that decode.
      report: is called with the number of records done, and of all.
    """
    sample = Sample(np.empty(len(records), _ROW), [""], {}, len(source))
    tasks = np.array_split(records, min(_NUM_TASKS, -(-len(records) // _NEIGHBOURS)))
    done = 0
    pool = ThreadPoolExecutor(num_threads)
    try:
        for rows, faults in pool.map(lambda t: _look(source, t, image_size), tasks):
            for number, kind, reason in faults:
                rows["kind"][number] = _note(sample, rows[number], kind, reason)
            sample.rows[done : done + len(rows)] = rows
            done += len(rows)
            report(done, len(records))
    finally:
        pool.shutdown(cancel_futures=True)
    return sample


def drawn_caption(text: bytes, rng: np.random.Generator) -> tuple[str, int]:
    """One of a record's captions, as training draws it, and how many there are.

    Raises:
      augment.BadRecord: there is none, or it is not UTF-8.
    """
    captions = augment.decode_captions(text)
    return captions[rng.integers(len(captions))], len(captions)


def _note(sample: Sample, row: np.void, kind: str, reason: str) -> int:
    if kind not in sample.kinds:
        sample.kinds.append(kind)
    examples = sample.bad.setdefault(kind, [])
    if len(examples) < _EXAMPLES:
        examples.append((int(row["record"]), reason))
    return sample.kinds.index(kind)


_Fault = tuple[int, str, str]  # place, kind, reason


def _look(
    source: Source, records: np.ndarray, image_size: int
) -> tuple[np.ndarray, list[_Fault]]:
    rows, faults = np.zeros(len(records), _ROW), []
    rows["record"] = records
    for number, row in enumerate(rows):
        try:
            _fill(row, *source[int(row["record"])], image_size)
        except augment.BadRecord as error:
            reason = str(error).removeprefix(error.kind).removeprefix(": ")
            faults.append((number, error.kind, reason))
        except OSError as error:
            reason = error.strerror or str(error)
            faults.append((number, "unreadable record", reason))
        except Exception as error:  # a run would end here; a doctor has to say so
            reason = f"{type(error).__name__}: {error}"
            faults.append((number, "unforeseen error", reason))
    return rows, faults


def _fill(row: np.void, encoded: bytes, text: bytes, image_size: int) -> None:
    rng = np.random.default_rng(int(row["record"]))
    caption, row["num_captions"] = drawn_caption(text, rng)
    row["caption"] = _hash(caption.encode("utf-8", "surrogatepass"))
    row["num_tokens"] = len(Tokenizer().encode(caption)) + 2
    row["has_html"] = _HTML.search(caption) is not None
    row["image"], row["num_bytes"] = _hash(encoded), len(encoded)
    random_crop.fast(encoded, image_size, rng)
    row["width"], row["height"] = augment.upright_size(encoded)
    found = augment.traits(encoded)
    row["traits"] = sum(1 << bit for bit, name in enumerate(TRAITS) if name in found)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
