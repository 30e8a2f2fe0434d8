"""The shapes data set: what its files hold; they appear whole or not at all."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from cloob_jax.data import shapes
from cloob_jax.data.shapes import shards
from cloob_jax.errors import UserError

COLOURS = ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"]
SHAPES = ["circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent"]
TEXTURES = ["plain", "striped", "dotted", "checkered", "bordered", "shaded"]


def read_tar(path: Path) -> dict[str, dict[str, bytes]]:
    """Members by key, then by suffix."""
    records: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, suffix = member.name.split(".")
            records.setdefault(key, {})[suffix] = tar.extractfile(member).read()
    return records


def read_tree(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def open_jpeg(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    assert image.format == "JPEG" and image.mode == "RGB"
    image.load()
    return image


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A data set of 60 pairs in shards of 25, and 24 images a task."""
    directory = tmp_path_factory.mktemp("shapes") / "made"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_PAIRS_PER_SHARD", 25)
        shapes.generate(directory, num_train=60, num_test=24, num_processes=1)
    return directory


def test_bytes_depend_on_the_seed_but_not_on_the_processes(made, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_PAIRS_PER_SHARD", 25)
    counts = {"num_train": 60, "num_test": 24}
    progress = []
    shapes.generate(
        tmp_path / "two",
        **counts,
        num_processes=2,
        report=lambda done, total: progress.append((done, total)),
    )
    assert read_tree(tmp_path / "two") == read_tree(made)
    assert [total for _, total in progress] == 8 * [60 + 5 * 24]
    assert progress == sorted(progress) and progress[-1][0] == progress[-1][1]
    shapes.generate(tmp_path / "other", **counts, seed=1, num_processes=1)
    for name in ("train/00000.tar", "shape/test/0.tar"):
        assert (tmp_path / "other" / name).read_bytes() != (made / name).read_bytes()


def test_training_shards_lie_as_img2dataset_writes_them(made):
    names = sorted(path.name for path in (made / "train").iterdir())
    assert names == [
        f"0000{i}{end}" for i in range(3) for end in (".tar", "_stats.json")
    ]
    for shard, num_pairs in enumerate((25, 25, 10)):
        path = made / "train" / f"{shard:05d}.tar"
        stats = json.loads(path.with_name(f"{path.stem}_stats.json").read_text())
        assert stats["count"] == stats["successes"] == num_pairs
        records = read_tar(path)
        assert list(records) == [f"{shard:05d}{i:04d}" for i in range(num_pairs)]
        for key, record in records.items():
            assert open_jpeg(record["jpg"]).size == (64, 64)
            description = json.loads(record["json"])
            assert description["key"] == key
            assert description["caption"] == record["txt"].decode()
            captions = record["txt"].decode().split("\n")
            assert 1 <= len(captions) <= 3 and all(captions)
            assert len(captions) == len(set(captions))


def test_other_pairs_lie_as_clip_benchmark_reads_them(made):
    records = read_tar(made / "captions" / "test" / "0.tar")
    assert list(records) == [f"s{i:07d}" for i in range(24)]
    trained = read_tar(made / "train" / "00000.tar").values()
    pictures = {record["jpg"] for record in trained}
    for record in records.values():
        assert open_jpeg(record["jpg"]).size == (64, 64)
        assert record["txt"].decode().strip() and record["jpg"] not in pictures


@pytest.mark.parametrize("task", ["shape", "colour", "texture", "held_out"])
def test_tasks_lie_as_clip_benchmark_reads_them(made, task):
    words = made / task
    assert (words / "dataset_type.txt").read_text() == "classification"
    assert (words / "test" / "nshards.txt").read_text() == "1"
    templates = (
        (words / "zeroshot_classification_templates.txt").read_text().split("\n")
    )
    assert templates.pop() == "" and all("{c}" in line for line in templates)
    names = (words / "classnames.txt").read_text().split("\n")
    assert names.pop() == ""
    held_out = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    expected = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES}
    assert names == expected.get(task, held_out)
    records = read_tar(words / "test" / "0.tar")
    assert list(records) == [f"s{i:07d}" for i in range(24)]
    counts = Counter(int(record["cls"]) for record in records.values())
    num_classes = 6 if task == "texture" else 8
    assert list(counts.values()) == num_classes * [24 // num_classes]
    for record in records.values():
        assert open_jpeg(record["jpg"]).size == (64, 64)


def test_held_out_pairs_are_a_permutation_that_training_never_sees(made):
    names = (made / "held_out" / "classnames.txt").read_text().splitlines()
    images = read_tar(made / "held_out" / "test" / "0.tar").values()
    held_out = {tuple(names[int(record["cls"])].split()) for record in images}
    assert len(held_out) == len(dict(held_out)) == len({s for _, s in held_out}) == 8
    scenes = [shards.sample_training_scene(Random(seed)) for seed in range(1000)] + [
        shards.sample_task_scene(Random(seed), task, label)
        for task in ("shape", "colour", "texture")
        for label in range(len(shards.TASKS[task]))
        for seed in range(8)
    ]
    seen = {(figure.colour, figure.shape) for s in scenes for figure in s.figures}
    assert not seen & held_out and len(seen) == 56
    assert {len(scene.figures) for scene in scenes} == {1, 2, 3}


def test_a_second_call_returns_at_once_and_two_at_once_draw_once(tmp_path):
    reports = []

    def call(_):
        shapes.generate(
            tmp_path / "set",
            num_train=30,
            num_test=1,
            num_processes=1,
            report=lambda done, total: reports.append(done),
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(call, range(2)))
    call(None)
    assert reports == [30, 31, 32, 33, 34, 35]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_other_settings_or_another_folder_are_refused(made, tmp_path):
    before = read_tree(made)
    with pytest.raises(UserError, match="image_size=64 instead of 96"):
        shapes.generate(made, num_train=60, num_test=24, image_size=96)
    assert read_tree(made) == before
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds no shapes data set"):
        shapes.generate(tmp_path, num_train=1, num_test=1)
    (tmp_path / "shapes.json").write_text("{")
    with pytest.raises(UserError, match="not readable"):
        shapes.generate(tmp_path, num_train=1, num_test=1)
    with pytest.raises(UserError, match="num_test is 0"):
        shapes.generate(tmp_path / "new", num_train=1, num_test=0)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_disk_that_refuses_leaves_nothing_and_gives_one_line(tmp_path, num_processes):
    # A limit on the size of files stands for a full disk: it is real, and spawned
    # processes inherit it.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(UserError, match="File too large; free some") as raised:
            shapes.generate(
                tmp_path / "set", num_train=99, num_test=1, num_processes=num_processes
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path / "set") in str(raised.value) and "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == [".set.lock"]


def test_a_killed_run_leaves_nothing_that_looks_done(tmp_path):
    directory = tmp_path / "set"
    script = tmp_path / "draw.py"
    script.write_text(
        "from pathlib import Path\n"
        "from cloob_jax.data.shapes import shards\n"
        "from cloob_jax.data.shapes import generate\n"
        "shards._PAIRS_PER_SHARD = 50\n"
        "if __name__ == '__main__':\n"
        f"    generate(Path({str(directory)!r}), num_train=50_000, num_test=10,\n"
        "             num_processes=2, report=lambda *_: print('shard', flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(shapes.__file__).parents[2])},
    )
    assert process.stdout.readline() == "shard\n"
    process.send_signal(signal.SIGKILL)
    # The pipe closes when the last of the run's processes has gone.
    process.communicate(timeout=20)
    assert not directory.exists() and list(tmp_path.glob(".set.making-*"))
    shapes.generate(directory, num_train=1, num_test=1, num_processes=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["draw.py", "set"]
