"""Ids against those of open_clip's SimpleTokenizer, made with open_clip_torch 3.3.0."""

import html
import pickle

import ftfy
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from cloob_jax import tokenizer
from cloob_jax.errors import UserError
from cloob_jax.tokenizer import END_ID, PAD_ID, START_ID, Tokenizer

# fmt: off
REFERENCE_IDS = [
    ("", []),
    (" \t\n ", []),
    ("A  Photo\tof a\nCAT", [320, 1125, 539, 320, 2368]),
    # HTML entities, twice escaped ones too, and text decoded wrongly on its way
    ("&lt;b&gt; rock &amp;amp; roll &#39;n&#39;",
     [283, 321, 285, 2172, 261, 3341, 262, 333, 262]),
    ("<b> a &amp;lt; b", [283, 321, 285, 320, 283, 321]),
    ("&#xD800;&#0;&nbsp;", [47356, 39802]),
    ("caf\xc3\xa9 \xe2\u20ac\u02dcquoted\xe2\u20ac\u2122", [15304, 262, 27706, 262]),
    ("cafe\u0301", [15304]),
    # contractions; the long s is an s to the pattern, not to the vocabulary
    ("I'LL say it's they've don't 'ouch'",
     [328, 1342, 1451, 585, 568, 889, 1200, 847, 713, 262, 13493, 262]),
    ("it'\u017f", [585, 6, 129, 379]),
    # digits stand alone, of any script
    ("3.14 and 2024, 1st",
     [274, 269, 272, 275, 537, 273, 271, 273, 275, 267, 272, 545]),
    ("\u0663\xbd\u2167", [149, 352, 33613, 158, 227, 371]),
    ("snake_case e-mail@x.com #1!!!",
     [8798, 318, 2068, 324, 268, 2614, 287, 343, 269, 2464, 258, 272, 995]),
    # emoji with joiners; Japanese, Russian, Arabic, Hindi; letters that change in case
    ("\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d"
     "\U0001f308", [12832, 25023, 26304, 964, 356, 32610]),
    ("\u65e5\u672c\u8a9e\u306e\u5199\u771f and \u0441\u043e\u0431\u0430\u043a\u0430",
     [39121, 44353, 34002, 252, 21575, 44653, 33440, 509, 537, 23669, 20978, 109, 16912,
      27152, 27080]),
    ("\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940",
     [12973, 18843, 10948, 16378, 12046, 20915, 29446, 26721, 26090, 19389, 29552,
      25751]),
    ("\u0130stanbul STRA\xdfE \ufb01ne \uff21\uff22",
     [328, 16384, 11231, 1894, 127, 253, 324, 3797, 3937]),
    # control characters, terminal escapes, and spaces of all kinds
    ("nul\x00 esc\x1b[31mred\x1b[0m del\x7f sep\x1cend",
     [1156, 331, 3330, 736, 2003, 3212, 806]),
    ("nbsp\xa0nel\x85ls\u2028zwsp\u200bbom\ufeff",
     [6459, 4393, 2693, 959, 1268, 89, 86, 4393, 9844, 19469]),
    # special tokens in open_clip's spelling, not in OpenAI's
    ("<start_of_text>cat<END_OF_TEXT> <|endoftext|>",
     [49406, 2368, 49407, 27, 347, 40786, 4160, 91, 285]),
    # many merges in a word, some of which overlap
    ("pneumonoultramicroscopicsilicovolcanoconiosis",
     [28714, 749, 20253, 9800, 535, 532, 1065, 901, 1556, 13697, 9916, 78, 39031,
      13903]),
    ("aaaaaaaaaaa", [23126, 9583]),
]
# fmt: on


@pytest.mark.parametrize(("text", "ids"), REFERENCE_IDS)
def test_ids_are_the_references(text, ids):
    assert Tokenizer().encode(text) == ids


def test_rows_are_the_published_ones():
    # "Hello World!": openai/CLIP, Interacting_with_CLIP.ipynb. The photographs:
    # Hugging Face's example for CLIPModel.
    rows = Tokenizer()(["Hello World!", "a photo of a cat", "a photo of a dog"])
    assert rows.shape == (3, 77) and rows.dtype == np.int32
    assert rows[0].tolist() == [49406, 3306, 1002, 256, 49407] + [0] * 72
    assert rows[1, :8].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 0]
    assert rows[2, :8].tolist() == [49406, 320, 1125, 539, 320, 1929, 49407, 0]


def test_one_text_makes_one_row_and_none_makes_none():
    assert Tokenizer()("").tolist() == [[START_ID, END_ID] + [PAD_ID] * 75]
    assert Tokenizer(8)([]).shape == (0, 8)


@pytest.mark.parametrize("num_words", [74, 75, 76, 1000])
def test_truncation_keeps_the_end(num_words):
    row = Tokenizer()("cat " * num_words)[0].tolist()
    kept = min(num_words, 75)
    padding = [PAD_ID] * (75 - kept)
    assert row == [START_ID] + [2368] * kept + [END_ID] + padding


def test_a_context_without_room_is_refused():
    assert Tokenizer(2)("cat").tolist() == [[START_ID, END_ID]]
    with pytest.raises(UserError, match="context_length=1"):
        Tokenizer(1)


def test_decode_returns_the_clean_text():
    text = "A  caf\xe9 in \u6771\u4eac \U0001f600"
    clean = "a caf\xe9 in \u6771\u4eac \U0001f600"
    assert Tokenizer().decode(Tokenizer().encode(text)) == clean
    assert Tokenizer().decode(Tokenizer()(text)[0]) == clean
    assert Tokenizer().decode(Tokenizer().encode("\U00010348")[:-1]).endswith("\ufffd")
    with pytest.raises(UserError, match="token id 49408"):
        Tokenizer().decode([320, 49408])


def test_every_token_decodes_to_bytes_of_its_own():
    token_bytes = tokenizer._vocabulary().token_bytes
    assert len(set(token_bytes)) == len(token_bytes) == START_ID


def test_it_can_be_sent_to_other_processes():
    copy = pickle.loads(pickle.dumps(Tokenizer(16)))
    assert copy == Tokenizer(16) and len(pickle.dumps(copy)) < 1000


@hypothesis.settings(deadline=None, derandomize=True, max_examples=50)
@hypothesis.given(st.text() | st.text(st.characters(max_codepoint=127)))
@hypothesis.example("tab\there &amp; \x1b[0mthere")
def test_the_short_way_through_clean_changes_nothing(text):
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert tokenizer.clean(text) == " ".join(mended.split()).lower()
