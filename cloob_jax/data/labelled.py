"""Labelled pictures in the forms that people have, and the words for their labels.

ROOT/test/{nshards.txt,0.tar,...}     members KEY.jpg and KEY.cls: CLIP_benchmark's
ROOT/classnames.txt                   WebDataset layout; one class a line, by the labels
ROOT/zeroshot_classification_templates.txt      one a line, {c} is the class name

ROOT/[VERSION/]dataset_info.json      TensorFlow Datasets, in ArrayRecord files

ROOT/[test/]CLASS/*.jpg               a folder for each class

Classes are known by their names, never by their numbers: the words for a folder or a
label of TFDS are looked up under its name.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cloob_jax.data import class_words, folders, patterns, tfds
from cloob_jax.data.pictures import Pictures
from cloob_jax.data.protocol import Source
from cloob_jax.data.tars import TarRecords
from cloob_jax.errors import UserError

_CLASS_NAMES = "classnames.txt"
_TEMPLATES = "zeroshot_classification_templates.txt"
_SINGLE_TEMPLATE = "a photo of a {c}."
# A data set's test split has other names where its real test labels are secret.
_SPLIT_NAMES = {
    "test": ("test", "validation", "val"),
    "validation": ("validation", "val"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledSet(Pictures):
    """Pictures with one label each, and the words for the labels.

    Attributes:
      class_names: in words.
      prompt_sets: name -> templates; the first is the data set's ensemble, another a
        single template.
      split: as it is called where the data lies.
    """

    class_names: list[str]
    prompt_sets: dict[str, list[str]]
    split: str = "test"

    def read(self, note: bytes) -> int:
        """A label.

        Raises:
          ValueError: it is no number, or no class has it.
        """
        with contextlib.suppress(ValueError):
            label = int(note)
            if 0 <= label < len(self.class_names):
                return label
        raise ValueError(
            f"its label is {note[:20]!r}; expected one from 0 to "
            f"{len(self.class_names) - 1}, as there are {len(self.class_names)} "
            "class names"
        )


def open_set(field: str, name: str, root: str, split: str = "test") -> LabelledSet:
    """Opens a split of the data set that lies in `root`, in any of the forms above.

    Args:
      field: what the user gave it by, for messages.
      name: what results call it; the words for its classes are known by it.
      root: a folder.
      split: `test` also means `validation` or `val` where there is no `test`.

    Raises:
      UserError: there is no such data set, or a part of it is missing, named.
    """
    directory = Path(root).expanduser()
    words = class_words.find(name)
    splits = _SPLIT_NAMES.get(split, (split,))
    there = [split for split in splits if has_split(root, split)] or splits
    records, class_names = _open_split(field, directory, there[0], name)
    if records is None:
        raise _nothing_there(field, directory, splits)
    if not len(records):
        raise UserError(f"{field}: {directory} has no picture in {there[0]}")
    if len(class_names) < 2:
        raise UserError(
            f"{field}: {directory} has one class, {class_names[0]!r}, which cannot be "
            "mistaken for another; give a data set of two or more"
        )
    templates = _templates(field, directory, words)
    return LabelledSet(name, records, class_names, templates, there[0])


def has_split(root: str, split: str) -> bool:
    """Whether the data set in `root` has a split of just that name, in any form."""
    directory = Path(root).expanduser()
    prepared, part = tfds.find(directory), directory / split
    return (
        any(part.glob("*.tar"))
        or (prepared is not None and split in tfds.splits(prepared))
        or any(folders.by_class(part).values())
    )


def open_tars(field: str, directory: Path, split: str, companion: str) -> TarRecords:
    """Opens `directory/split/*.tar`, of which an evaluation counts every record.

    Raises:
      UserError: a shard is missing, or anything in them is no whole record.
    """
    shards = patterns.find(str(directory / split), field, ("*.tar",), "tars")
    count = directory / split / "nshards.txt"
    if count.is_file() and count.read_text().strip() != str(len(shards)):
        raise UserError(
            f"{field}: {count} says {count.read_text().strip()}, but there "
            f"are {len(shards)} tars beside it; fetch the others"
        )
    try:
        records = TarRecords(shards, companion)
    except UserError as error:
        raise UserError(f"{field}: {error}") from None
    if records.faults:
        fault = records.faults[0]
        raise UserError(
            f"{field}: {fault.shard} {fault.key}: {fault.reason}; an "
            "evaluation counts every picture, so mend or replace the shard"
        )
    return records


def _open_split(
    field: str, directory: Path, split: str, name: str
) -> tuple[Source | None, list[str]]:
    """The records and the names of the classes; None and none where nothing is."""
    words = class_words.find(name)
    part = directory / split
    if any(part.glob("*.tar")):
        return open_tars(field, directory, split, "cls"), _class_names(field, directory)
    prepared = tfds.find(directory)
    if prepared is not None and split in tfds.splits(prepared):
        records = tfds.TfdsRecords(
            # TFDS gives ImageNet-A and R, of 200 classes, all names of ImageNet.
            field,
            prepared,
            split,
            only_present=words is not None and words.is_also_of(name),
        )
        return records, _in_words(field, records.label_names, words)
    # Without splits, all there is is the test split; never what is trained on as well.
    for folder in (part, directory) if split == "test" else (part,):
        found = folders.by_class(folder)
        if any(found.values()):
            return _open_folder(field, folder, found), _in_words(field, found, words)
    return None, []


def _open_folder(
    field: str, directory: Path, found: Mapping[str, Sequence[str]]
) -> folders.FolderRecords:
    empty = [label for label, files in found.items() if not files]
    if empty:
        raise UserError(
            f"{field}: {directory / empty[0]} holds no picture; fill it, or remove it"
        )
    groups = enumerate(found.values())
    notes = {file: str(number) for number, files in groups for file in files}
    return folders.FolderRecords(directory, notes)


def _nothing_there(field: str, directory: Path, splits: Sequence[str]) -> UserError:
    place = directory.resolve()
    if not directory.is_dir():
        return UserError(f"{field}: {place} is no folder; expected a data set there")
    prepared = tfds.find(directory)
    if prepared is not None:
        return UserError(
            f"{field}: {prepared} has no split {' or '.join(splits)}, but "
            f"{', '.join(tfds.splits(prepared))}"
        )
    split = splits[0] if len(splits) == 1 else f"{{{','.join(splits)}}}"
    return UserError(
        f"{field}: no data set in {place}; looked for {split}/*.tar with {_CLASS_NAMES}"
        " (CLIP_benchmark's layout), [VERSION/]dataset_info.json (TFDS), "
        f"{split}/CLASS/*.jpg and CLASS/*.jpg (folders)"
    )


def _in_words(
    field: str, labels: Iterable[str], words: class_words.ClassWords | None
) -> list[str]:
    """The names of classes for prompts."""
    if words is None:
        return [label.replace("_", " ") for label in labels]
    try:
        return words.class_names(list(labels))
    except UserError as error:
        raise UserError(f"{field}: {error}") from None


def _class_names(field: str, directory: Path) -> list[str]:
    path = directory / _CLASS_NAMES
    if not path.exists():
        raise UserError(
            f"{field}: {path} is missing; the labels in the tars are numbers, and it "
            "has their names, one a line"
        )
    return _lines(field, path)


def _templates(
    field: str, directory: Path, words: class_words.ClassWords | None
) -> dict[str, list[str]]:
    """Prompt set -> templates: what lies beside the data wins."""
    path = directory / _TEMPLATES
    if path.exists():
        ensemble = _lines(field, path)
    else:
        ensemble = [_SINGLE_TEMPLATE] if words is None else words.templates
    wrong = [template for template in ensemble if "{c}" not in template]
    if wrong:
        raise UserError(f"{field}: {path}: the template {wrong[0]!r} lacks {{c}}")
    found = {"ensemble": ensemble}
    if words is not None and set(words.templates) != set(ensemble):
        found["openai"] = words.templates
    if [_SINGLE_TEMPLATE] not in found.values():
        found["single_template"] = [_SINGLE_TEMPLATE]
    return found


def _lines(field: str, path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{field}: {path} cannot be read: {error}") from None
    lines = [line.strip() for line in lines]
    if "" in lines:
        # Skipping it would shift the labels of all that follow.
        raise UserError(f"{field}: {path} is empty or has an empty line")
    return lines
