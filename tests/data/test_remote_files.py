"""Far files against the same files at hand, over HTTP on loopback and in memory."""

import os
import pickle
import threading

import fsspec
import numpy as np
import pytest
from range_server import serving
from test_tars import pairs, write_tar

from cloob_jax.data import near_copies, order, remote_files, sources
from cloob_jax.data.tars import TarRecords
from cloob_jax.errors import UserError


@pytest.fixture(autouse=True)
def no_copies_of_others(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_files, "_PAUSES", (0, 0))
    remote_files.RemoteFile._recent.clear()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards of 2,500 records together, a chunk of which lies in both."""
    folder = tmp_path_factory.mktemp("shards")
    members = pairs(2500)
    write_tar(folder / "00000.tar", members[: 3 * 1300])
    write_tar(folder / "00001.tar", members[3 * 1300 :])
    return folder


@pytest.fixture
def store(shards):
    with serving(shards) as server:
        yield server


@pytest.mark.parametrize("name", ["/{00000..00001}.tar", "/*.tar", "/"])
def test_far_tars_are_those_at_hand(shards, store, name):
    far, near = sources.build(store.url + name), sources.build(str(shards))
    assert far.fingerprint == near.fingerprint
    assert [far[i] for i in (0, 7, 2499)] == [near[i] for i in (0, 7, 2499)]
    assert [far.name(i) for i in (0, 2499)] == [near.name(i) for i in (0, 2499)]


def test_an_index_is_made_by_reading_once(shards, store):
    reports = []
    sources.build(f"{store.url}/*.tar", report=lambda *done: reports.append(done))
    assert reports == [(1, 2), (2, 2)]
    assert store.times_read("00000.tar") <= 2  # its first two bytes tell of gzip
    store.log.clear()
    sources.build(f"{store.url}/*.tar")
    assert store.log == []


@pytest.mark.parametrize("far", [False, True])
def test_an_index_may_lie_beside_the_shards(shards, tmp_path, monkeypatch, far):
    # In memory, since a web server takes no files.
    pattern = "memory://bucket/shards" if far else str(tmp_path / "shards")
    store = fsspec.filesystem("memory" if far else "file")
    folder = pattern.removeprefix("memory:/")
    store.makedirs(folder)
    store.put(f"{shards}/*.tar", f"{folder}/")
    made = sources.build(pattern)
    name = made.keep_index(pattern)
    assert name.startswith(".cloob_jax_index_")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine's"))
    monkeypatch.setattr("cloob_jax.data.tar_index._scan", None)
    found = sources.build(pattern)
    assert found.fingerprint == made.fingerprint
    assert found[2400] == made[2400]


def test_a_window_reads_every_byte_once(store):
    far = sources.build(f"{store.url}/*.tar")
    store.log.clear()
    dataset = order.shuffled(far, seed=1, shuffle="window")
    keys = {far[int(dataset[i])][1] for i in range(2500)}
    assert len(keys) == 2500
    for shard in ("00000.tar", "00001.tar"):
        assert store.times_read(shard) == 1
    assert len(store.log) == 6  # five chunks, of which one lies in two shards


def test_processes_share_what_was_fetched(store):
    far = sources.build(f"{store.url}/*.tar")
    far.expect(range(0, 1000))
    expected = far[500]
    store.log.clear()
    remote_files.RemoteFile._recent.clear()  # as in another process
    other = pickle.loads(pickle.dumps(far))
    other.expect(range(0, 1000))
    assert other[500] == expected and store.log == []
    # What was not expected is a request of its own.
    assert other[2000][1] == b"caption 2000" and len(store.log) == 1


def test_threads_wait_for_one_that_fetches(store):
    far = sources.build(f"{store.url}/*.tar")
    store.log.clear()
    store.latency = 0.2
    far.expect(range(0, 1000))
    found = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(far[n])) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and len(store.log) == 1


def test_copies_are_bounded(store, tmp_path, monkeypatch):
    monkeypatch.setattr(near_copies, "MAX_BYTES", 5_000_000)  # one chunk and a half
    far = sources.build(f"{store.url}/*.tar")
    for start in (0, 1000, 0, 2000):
        far.expect(range(start, min(start + 1000, 2500)))
        assert far[start + 5][1] == f"caption {start + 5}".encode()
        copies = [f for f in (tmp_path / "cache/cloob_jax/pieces").iterdir()]
        assert sum(f.stat().st_size for f in copies) <= 5_000_000
    assert copies


def test_an_answer_that_fails_is_asked_for_again(store):
    far = sources.build(f"{store.url}/*.tar")
    store.fail = 2
    assert far[3][1] == b"caption 3"
    store.fail = 3
    with pytest.raises(OSError, match=r"503") as caught:
        far[4]
    assert caught.value.filename.endswith("00000.tar")


def test_a_server_without_ranges_is_told(store):
    store.knows_ranges = False
    with pytest.raises(UserError, match=r"00000\.tar: the server knows no ranges"):
        sources.build(f"{store.url}/*.tar")


def test_a_piece_that_cannot_be_kept_is_told(store, monkeypatch):
    far = sources.build(f"{store.url}/*.tar")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    far.expect(range(1000))
    with pytest.raises(UserError, match="No space left.*set XDG_CACHE_HOME"):
        far[0]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{url}/{00000..00003}.tar", "2 of 4 files are missing, the first is http"),
        ("{url}/nothing/*.tar", "no such file; point --config"),
        ("{url}/00000.csv", "no such file"),
        ("http://127.0.0.1:9/0.tar", "no such file|refused|Connect"),
        ("nothing://bucket/0.tar", "Protocol not known"),
        ("gs://bucket/{0..3}.tar", r"pip install 'cloob_jax\[gs\]'"),
        ("memory://none/*.tar", "no such file"),
    ],
)
def test_what_is_not_there_is_told(store, pattern, expected):
    if pattern.startswith("gs:"):
        pytest.importorskip("fsspec")
        if "gs" in fsspec.available_protocols() and _has("gcsfs"):
            pytest.skip("gcsfs is installed")
    with pytest.raises(UserError, match=expected):
        sources.build(pattern.replace("{url}", store.url))


def _has(module):
    import importlib.util

    return importlib.util.find_spec(module) is not None


def test_what_is_read_from_disks_alone_is_told(shards, store):
    (shards / "pairs.csv").write_text("filepath,title\n")
    with pytest.raises(UserError, match=r"tables .* are read from local disks alone"):
        sources.build(f"{store.url}/pairs.csv")


def test_far_parquet_is_that_at_hand(tmp_path, shards, store):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    images = [np.random.default_rng(i).bytes(3000) for i in range(600)]
    table = pyarrow.table({"jpg": images, "caption": [f"c {i}" for i in range(600)]})
    parquet.write_table(table, shards / "a.parquet", row_group_size=100)
    far = sources.build(f"{store.url}/a.parquet")
    near = sources.build(str(shards / "a.parquet"))
    assert far.fingerprint == near.fingerprint
    store.log.clear()
    far.expect(range(600))
    assert [far[i] for i in range(600)] == [near[i] for i in range(600)]
    assert store.times_read("a.parquet") <= 2  # what the file tells of itself
    assert store.num_bytes < 1.1 * (shards / "a.parquet").stat().st_size


def test_the_kernel_reads_a_local_piece_ahead(shards):
    near = TarRecords(sorted(shards.glob("*.tar")), "txt")
    path = shards / "00000.tar"
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        place = path.stat().st_size // 2
        try:
            os.preadv(descriptor, [bytearray(10)], place, os.RWF_NOWAIT)
        except BlockingIOError:
            pass
        except OSError:
            pytest.skip("this file system cannot tell what is cached")
        else:
            pytest.skip("this file system keeps everything cached")
        near.expect(range(1000))
        for _ in range(100):
            try:
                assert os.preadv(descriptor, [bytearray(10)], place, os.RWF_NOWAIT)
                break
            except BlockingIOError:
                threading.Event().wait(0.05)
        else:
            pytest.fail("the range was not read ahead")
    finally:
        os.close(descriptor)
