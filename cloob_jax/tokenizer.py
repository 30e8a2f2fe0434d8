"""CLIP's byte-pair tokenizer: texts in, fixed-length rows of token ids out.

Gives the ids of `SimpleTokenizer` in OpenAI's CLIP (Radford et al. 2021,
https://github.com/openai/CLIP) and in open_clip: text is mended, unescaped and lower
cased, split into words, and each word's bytes are merged by a fixed list of pairs. A
vocabulary token is named by its id alone: 256 bytes, the same bytes at the end of a
word, then one id a merge, so that a lower id is a merge of higher priority.
"""

import dataclasses
import functools
import gzip
import heapq
import html
import importlib.resources
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import ftfy
import numpy as np
import regex
from jaxtyping import Int, Int32

from cloob_jax.errors import UserError

START_ID = 49406
END_ID = 49407
PAD_ID = 0
VOCABULARY_SIZE = 49408

# open_clip's spelling: a text that contains one of them literally gets the special id.
_SPECIAL_IDS = {"<start_of_text>": START_ID, "<end_of_text>": END_ID}

# IGNORECASE matters in lower-cased text too: the long s, as in "it'\u017f", matches s.
_WORD = regex.compile(
    "|".join(_SPECIAL_IDS)
    + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Turns texts into CLIP token ids; small, hashable and picklable.

    Attributes:
      context_length: l, tokens in a row, the start and the end token included.

    Raises:
      UserError: if `context_length` has no room for the start and the end token.
    """

    context_length: int = 77

    @property
    def vocabulary_size(self) -> int:
        """Ids that a text encoder has to know."""
        return VOCABULARY_SIZE

    @property
    def end_id(self) -> int:
        """The id of the end-of-text token, at which a text's feature is read."""
        return END_ID

    def __post_init__(self):
        if self.context_length < 2:
            raise UserError(
                f"context_length={self.context_length}: expected at least 2, room for "
                "the start and the end token; CLIP uses 77"
            )

    def __call__(self, texts: str | Sequence[str]) -> Int32[np.ndarray, "n l"]:
        """Returns one row a text: start, the text's ids, end, then padding (id 0).

        A text that is too long loses its last ids, never its end token: the text
        encoder reads its feature there.
        """
        texts = [texts] if isinstance(texts, str) else texts
        rows = np.full((len(texts), self.context_length), PAD_ID, np.int32)
        for row, text in zip(rows, texts, strict=True):
            ids = list(itertools.islice(_text_ids(text), self.context_length - 2))
            row[: len(ids) + 2] = [START_ID, *ids, END_ID]
        return rows

    def encode(self, text: str) -> list[int]:
        """Returns all ids of a text, without start, end, truncation or padding."""
        return list(_text_ids(text))

    def decode(self, ids: Iterable[int] | Int[np.ndarray, " l"]) -> str:
        """Returns the cleaned text of a row or of `encode`'s ids, words spaced apart.

        Start tokens are dropped, and what follows the first end token (the padding)
        is ignored. Bytes that are no UTF-8, as truncation can leave them, become
        U+FFFD.

        Raises:
          UserError: if an id is not in the vocabulary.
        """
        token_bytes = _vocabulary().token_bytes
        parts = []
        for token_id in itertools.takewhile(lambda token_id: token_id != END_ID, ids):
            if not 0 <= token_id <= START_ID:
                raise UserError(
                    f"token id {token_id}: expected one of 0 to {VOCABULARY_SIZE - 1}, "
                    "the ids of CLIP's vocabulary"
                )
            parts.append(token_bytes[token_id] if token_id != START_ID else b"")
        return b"".join(parts).decode("utf-8", errors="replace").rstrip(" ")


def clean(text: str) -> str:
    """Mends broken Unicode, unescapes HTML twice, lower cases, makes spaces single."""
    # Printable ASCII without entities has nothing to mend: some 20 times as fast.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


_MERGED_AWAY = -1


class _Vocabulary(NamedTuple):
    byte_ids: list[int]
    merged_ids: dict[tuple[int, int], int]
    token_bytes: list[bytes]


# A byte is spelled as a visible character: as itself where Latin-1 prints it, the 68
# others as the characters from U+0100 on. The ids follow that order.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_ORDER = _VISIBLE + [byte for byte in range(256) if byte not in _VISIBLE]
_LETTERS = [chr(byte) for byte in _VISIBLE] + [chr(256 + i) for i in range(68)]


def spelled() -> tuple[list[str], list[str]]:
    """The tokens before the two special ones as OpenAI spells them, and the merges."""
    file = importlib.resources.files("cloob_jax") / "vocabulary/clip_bpe_merges.txt.gz"
    merges = gzip.decompress(file.read_bytes()).decode("utf-8").splitlines()
    merged = [merge.replace(" ", "") for merge in merges]
    return [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), *merged], merges


@functools.cache
def _vocabulary() -> _Vocabulary:
    tokens, merges = spelled()
    ids = {token: number for number, token in enumerate(tokens)}
    token_bytes = [bytes([byte]) for byte in _ORDER]
    token_bytes += [bytes([byte]) + b" " for byte in _ORDER]
    merged_ids = {}
    for line in merges:
        left, right = line.split(" ")
        pair = ids[left], ids[right]
        merged_ids[pair] = len(token_bytes)
        token_bytes.append(token_bytes[pair[0]] + token_bytes[pair[1]])
    byte_ids = [_ORDER.index(byte) for byte in range(256)]
    return _Vocabulary(byte_ids, merged_ids, token_bytes)


def _text_ids(text: str) -> Iterator[int]:
    for match in _WORD.finditer(clean(text)):
        yield from _word_ids(match.group())


@functools.lru_cache(maxsize=1 << 16)
def _word_ids(word: str) -> tuple[int, ...]:
    """Merges a word's bytes, the pair of lowest merged id first, then the leftmost.

    A heap of the pairs keeps a word of n bytes at n log(n): text without spaces, as
    Japanese is written, makes words of thousands.
    """
    if word in _SPECIAL_IDS:
        return (_SPECIAL_IDS[word],)
    byte_ids, merged_ids, _ = _vocabulary()
    ids = [byte_ids[byte] for byte in word.encode("utf-8")]
    ids[-1] += 256
    previous = list(range(-1, len(ids) - 1))
    following = list(range(1, len(ids) + 1))
    heap: list[tuple[int, int]] = []

    def push(left: int, right: int) -> None:
        if left >= 0 and right < len(ids) and (ids[left], ids[right]) in merged_ids:
            heapq.heappush(heap, (merged_ids[ids[left], ids[right]], left))

    for left in range(len(ids) - 1):
        push(left, left + 1)
    while heap:
        merged_id, left = heapq.heappop(heap)
        right = following[left]
        # An entry is stale once either of its two tokens was merged away.
        if right == len(ids) or merged_ids.get((ids[left], ids[right])) != merged_id:
            continue
        ids[left], ids[right] = merged_id, _MERGED_AWAY
        following[left] = following[right]
        if following[left] < len(ids):
            previous[following[left]] = left
        push(previous[left], left)
        push(left, following[left])
    return tuple(token_id for token_id in ids if token_id != _MERGED_AWAY)
