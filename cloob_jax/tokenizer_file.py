"""Any tokenizer of Hugging Face's `tokenizers` library, from its `tokenizer.json`."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from cloob_jax.errors import UserError
from cloob_jax.tokenizer import PAD_ID, Tokenizer


@dataclasses.dataclass(frozen=True)
class FileTokenizer(Tokenizer):
    """Turns texts into rows of ids as a file says; picklable.

    Attributes:
      path: of a `tokenizer.json`, whose post-processor ends every text with one and the
        same token, at which the text's feature is read.

    Raises:
      UserError: no such file, one that the library cannot read, or one without an end
        token; the library is not installed.
    """

    path: str = ""

    def __post_init__(self):
        super().__post_init__()
        special = len(_open(self.path).encode("").ids)
        if special > self.context_length:
            raise UserError(
                f"context_length={self.context_length}: config.data.tokenizer="
                f"{self.path} adds {special} tokens to every text"
            )

    @property
    def vocabulary_size(self) -> int:
        """One more than the largest id, added tokens included."""
        return max(_open(self.path).get_vocab(with_added_tokens=True).values()) + 1

    @property
    def end_id(self) -> int:
        """The id of the token that ends every text."""
        return _open(self.path).encode("").ids[-1]

    def __call__(self, texts: str | Sequence[str]) -> Int32[np.ndarray, "n l"]:
        """Returns one row a text: its ids, the last one the end's, then padding (0).

        A text that is too long loses its last ids, never its end token.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        rows = np.full((len(texts), self.context_length), PAD_ID, np.int32)
        encoded = _open(self.path, self.context_length).encode_batch(texts)
        for row, encoding in zip(rows, encoded, strict=True):
            row[: len(encoding.ids)] = encoding.ids
        return rows

    def encode(self, text: str) -> list[int]:
        """Returns all ids of a text, without special tokens or truncation."""
        return _open(self.path).encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int] | Int[np.ndarray, " l"]) -> str:
        """Returns the text of ids up to the first end token, special tokens dropped."""
        ids = [int(token_id) for token_id in ids]
        end = ids.index(self.end_id) if self.end_id in ids else len(ids)
        return _open(self.path).decode(ids[:end])


@functools.cache
def _open(path: str, max_length: int | None = None) -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            f"config.data.tokenizer={path}: the library that reads it is missing: "
            "pip install tokenizers"
        ) from None
    if not Path(path).is_file():
        raise UserError(f"config.data.tokenizer={path}: no such file")
    try:
        tokens = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing more special
        raise UserError(
            f"config.data.tokenizer={path}: not a tokenizer.json: {error}"
        ) from None
    tokens.no_padding()
    tokens.no_truncation()
    nothing, letter = tokens.encode("").ids, tokens.encode("a").ids
    if not nothing or nothing[-1] != letter[-1]:
        raise UserError(
            f"config.data.tokenizer={path}: adds no token at a text's end, where its "
            "feature is read; give its post_processor one (TemplateProcessing)"
        )
    if max_length is not None:
        tokens.enable_truncation(max_length)
    return tokens
