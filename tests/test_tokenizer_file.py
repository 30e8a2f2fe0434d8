"""Tokenizers of the `tokenizers` library, by their file."""

import pickle

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from cloob_jax.errors import UserError
from cloob_jax.tokenizer_file import FileTokenizer

WORDS = ["[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "photo", "of"]


def write(path, template="[CLS] $A [SEP]", words=()):
    ids = {word: number for number, word in enumerate((*WORDS, *words))}
    made = tokenizers.Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["[CLS]", "[SEP]"])
    if template:
        special = [("[CLS]", 1), ("[SEP]", 2)]
        made.post_processor = processors.TemplateProcessing(template, None, special)
    # Settings of the file that are not ours.
    made.enable_padding(length=50)
    made.enable_truncation(3)
    made.save(str(path))
    return str(path)


def test_rows_end_at_the_end_token_and_are_padded(tmp_path):
    tokens = FileTokenizer(6, path=write(tmp_path / "tokenizer.json"))
    assert (tokens.vocabulary_size, tokens.end_id) == (8, 2)
    np.testing.assert_array_equal(
        tokens(["a cat", "a photo of a dog of a cat", "", "zebra"]),
        [
            [1, 3, 4, 2, 0, 0],
            [1, 3, 6, 7, 3, 2],
            [1, 2, 0, 0, 0, 0],
            [1, 0, 2, 0, 0, 0],
        ],
    )
    assert tokens("a cat").shape == (1, 6) and tokens("a cat").dtype == np.int32
    assert tokens.encode("a photo of a dog of a cat") == [3, 6, 7, 3, 5, 7, 3, 4]
    assert tokens.decode(tokens("a cat")[0]) == "a cat"
    again = pickle.loads(pickle.dumps(tokens))
    np.testing.assert_array_equal(again("a dog"), tokens("a dog"))


def test_what_cannot_be_used_is_named(tmp_path):
    (tmp_path / "no.json").write_text("{}")
    for path, message in (
        (str(tmp_path / "none.json"), "no such file"),
        (str(tmp_path / "no.json"), r"not a tokenizer\.json"),
        (write(tmp_path / "bare.json", None), "no token at a text's end"),
        (write(tmp_path / "start.json", "[CLS] $A"), "no token at a text's end"),
    ):
        with pytest.raises(UserError, match=message):
            FileTokenizer(path=path)
    with pytest.raises(UserError, match="context_length=1"):
        FileTokenizer(1, path=write(tmp_path / "tokenizer.json"))
