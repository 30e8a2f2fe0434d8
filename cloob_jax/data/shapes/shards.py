"""The files of the shapes data set: tars of training pairs and of what tests ask.

Training pairs lie in img2dataset's layout (`train/00000.tar` with `000000000.jpg`,
`.txt`, `.json`); the zero-shot tasks, and other pairs for retrieval, lie in
CLIP_benchmark's WebDataset layout (`shape/test/0.tar` with `s0000000.jpg`, `.cls`,
class names and templates beside; `captions/test/0.tar` with `s0000000.jpg`, `.txt`).
"""

import dataclasses
import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random

from cloob_jax.data.shapes.captions import write_captions
from cloob_jax.data.shapes.drawing import draw_jpeg
from cloob_jax.data.shapes.scenes import (
    COLOURS,
    COMBINATIONS,
    HELD_OUT,
    SEEN,
    SHAPES,
    TEXTURES,
    Scene,
    sample_scene,
    sample_training_scene,
)

_PAIRS_PER_SHARD = 1000

TASKS = {
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES,
    "held_out": tuple(f"{colour} {shape}" for colour, shape in COMBINATIONS),
}
_TEMPLATES = {
    "shape": (
        "a {c}",
        "a photo of a {c}.",
        "a picture of a {c}",
        "a drawing of a {c}",
        "{c} clipart",
    ),
    "colour": (
        "the {c} shape",
        "a photo of the {c} object.",
        "a picture of the {c} thing",
        "{c} figure",
    ),
    "texture": (
        "a {c} shape",
        "a photo of a {c} object.",
        "a picture of a {c} thing",
        "{c} figure",
    ),
    "held_out": (
        "{c}",
        "the {c}",
        "photo of {c}",
        "a picture of the {c}",
        "{c} clipart",
    ),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that the bytes of the data set depend on; see `shapes.generate`."""

    num_train: int
    num_test: int
    image_size: int
    seed: int
    # To be raised when the same settings would draw other pictures or captions.
    version: int = 3


@dataclasses.dataclass(frozen=True)
class Shard:
    """One tar to write: `split` is `train`, `captions` or a task; `scenes` are numbers.

    The number alone decides what a scene shows, not the shard that it lies in.
    """

    split: str
    index: int
    scenes: range


def plan_shards(settings: Settings) -> list[Shard]:
    """The shards of the whole data set, the training split's first."""
    scenes = range(settings.num_train)
    starts = range(0, settings.num_train, _PAIRS_PER_SHARD)
    train = [
        Shard("train", index, scenes[start : start + _PAIRS_PER_SHARD])
        for index, start in enumerate(starts)
    ]
    tests = [*TASKS, "captions"]
    return train + [Shard(split, 0, range(settings.num_test)) for split in tests]


def write_shard(directory: Path, settings: Settings, shard: Shard) -> int:
    """Draw the shard's scenes into its tar under `directory`; returns their number."""
    if shard.split == "train":
        _write_training_shard(directory / "train", settings, shard)
    else:
        make = _make_test_pair if shard.split == "captions" else _make_task_image
        _write_tar(
            directory / shard.split / "test" / f"{shard.index}.tar",
            (make(settings, shard.split, number) for number in shard.scenes),
        )
    return len(shard.scenes)


def write_task_descriptions(directory: Path) -> None:
    """Make each test's folder, with its shard count and a task's words."""
    for split in (*TASKS, "captions"):
        test = directory / split / "test"
        test.mkdir(parents=True)
        (test / "nshards.txt").write_text("1")
    (directory / "captions" / "dataset_type.txt").write_text("retrieval")
    for task, class_names in TASKS.items():
        for name, text in (
            ("classnames.txt", "".join(f"{name}\n" for name in class_names)),
            (
                "zeroshot_classification_templates.txt",
                "".join(f"{template}\n" for template in _TEMPLATES[task]),
            ),
            ("dataset_type.txt", "classification"),
        ):
            (directory / task / name).write_text(text)


def task_labels(task: str) -> tuple[int, ...]:
    """The labels that occur in a task's images, equally often."""
    if task == "held_out":
        return tuple(COMBINATIONS.index(pair) for pair in HELD_OUT)
    return tuple(range(len(TASKS[task])))


def sample_task_scene(random: Random, task: str, label: int) -> Scene:
    """A scene of one figure of the class, which is one of `task_labels(task)`."""
    name = TASKS[task][label]
    pairs = HELD_OUT if task == "held_out" else SEEN
    kinds = [
        (colour, shape, texture)
        for (colour, shape), texture in itertools.product(pairs, TEXTURES)
        if name in (colour, shape, texture, f"{colour} {shape}")
    ]
    return sample_scene(random, [random.choice(kinds)])


def _write_training_shard(directory: Path, settings: Settings, shard: Shard) -> None:
    _write_tar(
        directory / f"{shard.index:05d}.tar",
        (
            _make_pair(settings, f"{shard.index:05d}{sample:04d}", scene)
            for sample, scene in enumerate(shard.scenes)
        ),
    )
    stats = {
        "count": len(shard.scenes),
        "successes": len(shard.scenes),
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "status_dict": {"success": len(shard.scenes)},
    }
    path = directory / f"{shard.index:05d}_stats.json"
    path.write_text(json.dumps(stats, indent=4))


def _make_pair(settings: Settings, key: str, number: int) -> dict[str, bytes]:
    """The members of one training pair by their names."""
    random = Random(f"{settings.seed}/train/{number}")
    scene = sample_training_scene(random)
    caption = "\n".join(write_captions(random, scene))
    description = {
        "key": key,
        "caption": caption,
        "status": "success",
        "width": settings.image_size,
        "height": settings.image_size,
        **dataclasses.asdict(scene),
    }
    return {
        f"{key}.jpg": draw_jpeg(scene, settings.image_size),
        f"{key}.json": json.dumps(description).encode(),
        f"{key}.txt": caption.encode(),
    }


def _make_test_pair(settings: Settings, split: str, number: int) -> dict[str, bytes]:
    """Like training's pairs, which it is none of."""
    random = Random(f"{settings.seed}/{split}/{number}")
    scene = sample_training_scene(random)
    caption = "\n".join(write_captions(random, scene))
    return {
        f"s{number:07d}.jpg": draw_jpeg(scene, settings.image_size),
        f"s{number:07d}.txt": caption.encode(),
    }


def _make_task_image(settings: Settings, task: str, number: int) -> dict[str, bytes]:
    labels = task_labels(task)
    label = labels[number % len(labels)]
    random = Random(f"{settings.seed}/{task}/{number}")
    scene = sample_task_scene(random, task, label)
    return {
        f"s{number:07d}.cls": str(label).encode(),
        f"s{number:07d}.jpg": draw_jpeg(scene, settings.image_size),
    }


def _write_tar(path: Path, records: Iterable[Mapping[str, bytes]]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for record in records:
            for name, content in record.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
