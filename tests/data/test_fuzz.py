"""Damaged files of every kind: a picture of the right shape, or a `BadRecord`.

`FUZZ_CASES=10000 pytest tests/data/test_fuzz.py` tries more, each time others.
"""

import contextlib
import gc
import math
import os
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from damage import ORIGINALS, damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_random_crop import decibels
from test_tars import write_tar

from cloob_jax.data import array_records, augment, pipeline, random_crop, sources
from cloob_jax.errors import UserError
from cloob_jax.tokenizer import Tokenizer

_CASES = int(os.environ.get("FUZZ_CASES", "0"))
fuzz = settings(
    max_examples=_CASES or 100,
    derandomize=not _CASES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# A thread that an earlier test has left draws too: beartype does, at each list.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
_KINDS = {"not an image", "undecodable image", "too many pixels"}
_SIZE = 32  # of the crops
_TOKENIZER = Tokenizer(16)


def crop(way, content):
    """The crop or the kind of fault, and what is drawn next."""
    rng = np.random.default_rng(0)
    try:
        result = way(content, _SIZE, rng)
    except augment.BadRecord as error:
        assert error.kind in _KINDS
        result = error.kind
    else:
        assert result.shape == (_SIZE, _SIZE, 3) and result.dtype == np.uint8
    return result, rng.integers(2**32)


@fuzz
@given(damaged())
def test_a_damaged_picture_is_cropped_or_refused_alike(content):
    (fast, then), (exact, also) = (
        crop(way, content) for way in (random_crop.fast, random_crop.pil)
    )
    assert then == also
    assert fast == exact if isinstance(exact, str) else not isinstance(fast, str)


@pytest.mark.parametrize("number", range(len(ORIGINALS)))
def test_what_is_damaged_was_whole(number):
    fast, exact = (
        crop(way, ORIGINALS[number])[0] for way in (random_crop.fast, random_crop.pil)
    )
    assert decibels(fast, exact) > 30 and exact.std() > 10


def test_damage_leaks_nothing():
    files = []

    @settings(fuzz, max_examples=100, derandomize=True)
    @given(damaged())
    def collect(content):
        with contextlib.suppress(augment.BadRecord):
            if math.prod(augment.upright_size(content)) > 2**20:
                return  # it would take long, again and again
        files.append(content)

    def use():
        for content in files:
            for way in (random_crop.fast, random_crop.pil):
                crop(way, content)
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), os.listdir("/proc/self/fd")

    collect()
    before, descriptors = [use() for _ in range(3)][-1]
    rounds = max(8, _CASES // 300)
    after, then = [use() for _ in range(rounds)][-1]
    # An 8 kB picture or a file of 2 kB that stayed at each turn would be more.
    assert after - before < 2**20 and len(then) == len(descriptors)


_texts = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    damaged(st.just("größe 猫 &amp; <start_of_text>\r\n\n a \u202e dog".encode())),
)


@fuzz
@given(_texts)
def test_a_damaged_caption_is_tokenised_or_refused(content):
    try:
        captions = augment.decode_captions(content)
    except augment.BadRecord as error:
        assert error.kind in {"bad caption", "empty caption"}
    else:
        tokens = _TOKENIZER(captions)
        assert tokens.shape == (len(captions), 16) and tokens.dtype == np.int32
        assert (tokens >= 0).all() and (tokens < 49408).all()


@pytest.fixture
def no_hang():
    """Ends a test whose one case does not end."""

    def end(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    yield lambda: signal.alarm(60)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def write_tars(folder):
    pictures = [ORIGINALS[0], ORIGINALS[6], ORIGINALS[14]]
    members = []
    for number, picture in enumerate(pictures):
        name = f"{number}" if number else "a-name-that-needs-a-header-of-its-own" * 4
        members += [(f"{name}.jpg", picture), (f"{name}.txt", b"a caption")]
    kind = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    return [write_tar(folder / f"{k}.tar", members, kind[k]) for k in kind]


def write_array_record(folder):
    path = folder / "x.array_record"
    array_records.write(path, [(f"{n}", ORIGINALS[n], "a caption") for n in range(3)])
    return [path]


def write_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"jpg": ORIGINALS[:3], "caption": ["a", "b", "c"]})
    path = folder / "x.parquet"
    parquet.write_table(table, path, row_group_size=2)
    return [path]


def write_table(folder):
    (folder / "0.jpg").write_bytes(ORIGINALS[0])
    path = folder / "x.csv"
    path.write_text('filepath,title\n0.jpg,"a, ""b"""\n1.jpg,größe\n')
    return [path]


@pytest.mark.parametrize(
    "write", [write_tars, write_array_record, write_parquet, write_table]
)
def test_a_damaged_container_is_read_or_refused(tmp_path, monkeypatch, no_hang, write):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = {path: path.read_bytes() for path in write(tmp_path)}

    @fuzz
    @given(st.sampled_from(list(paths)), st.data())
    def check(path, data):
        content = data.draw(damaged(st.just(paths[path])))
        path.write_bytes(content)
        no_hang()
        try:
            source = sources.build(str(path))
        except UserError as error:
            assert str(path) in str(error)
            return
        load = pipeline.LoadPair(source, _TOKENIZER, _SIZE)
        for record in range(len(source)):
            with contextlib.suppress(augment.BadRecord):
                load.load(record, np.random.default_rng(0))
            source.name(record)

    check()
