"""Labels or captions prepared by TensorFlow Datasets, read without TensorFlow.

The data has to be prepared with `file_format="array_record"`; docs/evaluation.md tells
how for ImageNet.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from cloob_jax.data import array_records, augment, patterns
from cloob_jax.data.protocol import Fault
from cloob_jax.errors import UserError

_INFO = "dataset_info.json"
_CAPTIONS = ("caption", "captions", "text", "title")


class TfdsRecords:
    """The pictures of one split with their labels: what `TarRecords` is of tars.

    Attributes:
      label_names: the data set's own, in the order of the labels.
    """

    def __init__(
        self, field: str, directory: Path, split: str, only_present: bool = False
    ):
        """Opens a split of the data set that lies in `directory`.

        Args:
          field: what the user gave it by, for messages.
          directory: with `dataset_info.json`.
          split: one of `splits(directory)`.
          only_present: whether labels that no picture has are left out.

        Raises:
          UserError: the extra `tfds` is not installed, or the directory cannot be read.
        """
        builder = _builder(field, directory)
        try:
            names = list(builder.info.features["label"].names)
        except (KeyError, AttributeError):
            raise UserError(
                f"{field}: {directory} has no `label` with names beside `image`"
            ) from None
        self._records = _open(field, directory, builder, split, "image")
        labels = list(range(len(names)))
        if only_present:
            labels = sorted({int(example["label"]) for example in self._records})
        self.label_names = [names[label] for label in labels]
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._name = f"{builder.info.full_name} {split}"
        self.faults: list[Fault] = []
        text = json.dumps([self._name, len(self), self.label_names])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        example = self._records[record]
        number = self._numbers[int(example["label"])]
        return example["image"], str(number).encode()

    def name(self, record: int) -> tuple[str, str]:
        """The data set's name and split, and the number of a picture."""
        return self._name, str(record)


class TfdsPairs:
    """The pictures of one split with their captions.

    Attributes:
      fingerprint: of the data set's name and version, the sizes of its splits, the
        split and the columns; it does not depend on where it lies.
      layout: which features are read, for reports.
    """

    def __init__(
        self,
        field: str,
        directory: Path,
        split: str,
        columns: tuple[str, str] | None = None,
    ):
        """Opens a split of the data set that lies in `directory`.

        Args:
          field: what the user gave it by, for messages.
          directory: with `dataset_info.json`.
          split: such as `train` or `train[:10%]`.
          columns: features with the image and the captions: a text, a list of them,
            or what has these as `text`. None: `image`, and the first of `caption`,
            `captions`, `text` and `title`.

        Raises:
          UserError: the extra `tfds` is not installed, the directory cannot be read,
            or it lacks the split or a feature.
        """
        self.faults: list[Fault] = []
        parts = re.findall(r"(?:^|\+)\s*(\w+)", split)
        unknown = [part for part in parts if part not in splits(directory)]
        if unknown:
            raise UserError(
                f"{field}: {directory} has no split {unknown[0]}, but "
                f"{', '.join(splits(directory))}"
            )
        builder = _builder(field, directory)
        features = list(builder.info.features)
        self._image, *wanted = columns or ("image", *_CAPTIONS)
        there = [name for name in wanted if name in features]
        if self._image not in features or not there:
            similar = patterns.nearest(wanted[0], features)
            raise UserError(
                f"{field}: {directory} has no {self._image} with {' or '.join(wanted)},"
                f" but {', '.join(features)}"
                f"{f' (the nearest is {similar})' if similar else ''}; name them by "
                "config.data.columns=IMAGE,CAPTION"
            )
        self._caption = there[0]
        self.layout = f"images from {self._image}, captions from {self._caption}"
        self._place = field, directory, split
        self._records = _open(field, directory, builder, split, self._image)
        if not len(self):
            raise UserError(f"{field}: {directory} has no record in {split}")
        self._name = f"{builder.info.full_name} {split}"
        info = json.loads((directory / _INFO).read_text(encoding="utf-8"))
        text = json.dumps([self._name, info["splits"], self._image, self._caption])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, record: int) -> tuple[bytes, bytes]:
        if not 0 <= record < len(self):
            raise IndexError(record)
        try:
            example = self._records[record]
        except Exception as error:  # whatever the library makes of damaged records
            raise array_records.bad_record(error) from None
        image, captions = example[self._image], example[self._caption]
        if isinstance(captions, dict):
            captions = captions.get("text", [])
        if isinstance(captions, str | bytes):
            captions = [captions]
        if not isinstance(image, bytes):
            raise augment.BadRecord("missing image")
        try:
            return image, augment.encode_captions(map(_text, captions))
        except TypeError:
            raise augment.BadRecord(
                "bad caption", f"{self._caption} holds no text"
            ) from None

    def name(self, record: int) -> tuple[str, str]:
        """The data set's name and split, and the number of a picture."""
        return self._name, str(record)

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_records"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        field, directory, split = self._place
        builder = _builder(field, directory)
        self._records = _open(field, directory, builder, split, self._image)


def open_pairs(
    field: str, name: str, columns: tuple[str, str] | None = None
) -> TfdsPairs:
    """Opens `tfds:NAME:SPLIT` or `tfds:/folder/of/it:SPLIT`.

    Raises:
      UserError: it is not of that form, or the data set is not there.
    """
    part = r"\w+(?:\[[^\]]*\])?"
    found = re.fullmatch(rf"tfds:(.+?):({part}(?:\+{part})*)", name)
    if not found:
        raise UserError(
            f"{field}={name}: expected tfds:NAME:SPLIT or tfds:/folder/of/it:SPLIT, "
            "such as tfds:coco_captions:train"
        )
    where, split = found.groups()
    base = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    is_path = where.startswith((".", "~", "/"))
    folder = (Path(where) if is_path else base / where).expanduser()
    directory = find(folder)
    if directory is None:
        hint = "" if is_path else " ($TFDS_DATA_DIR, else ~/tensorflow_datasets)"
        raise UserError(
            f"{field}={name}: no data set in {folder}{hint}; looked for "
            f"[VERSION/]{_INFO}, as tfds build --file_format=array_record makes it"
        )
    return TfdsPairs(field, directory, split, columns)


def _text(caption: Any) -> str:
    try:
        return str(caption, "utf-8") if isinstance(caption, bytes) else "" + caption
    except UnicodeDecodeError as error:
        raise augment.BadRecord(
            "bad caption", f"not UTF-8 (byte {error.start})"
        ) from None


def _builder(field: str, directory: Path) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise UserError(
            f"{field}: {directory} is a TFDS data set, which needs "
            "tensorflow_datasets: pip install 'cloob_jax[tfds]'"
        ) from None
    try:
        return tfds.builder_from_directory(directory)
    except Exception as error:  # whatever the library makes of a damaged folder
        raise _cannot_be_read(field, directory, error) from None


def _open(field: str, directory: Path, builder: Any, split: str, image: str) -> Any:
    """The examples of a split, the image as it is encoded."""
    import tensorflow_datasets as tfds

    try:
        decoders = {image: tfds.decode.SkipDecoding()}
        return builder.as_data_source(split, decoders=decoders)
    except Exception as error:  # the same
        raise _cannot_be_read(field, directory, error) from None


def _cannot_be_read(field: str, directory: Path, error: Exception) -> UserError:
    first, *_ = [*str(error).splitlines(), ""]
    return UserError(
        f"{field}: {directory} cannot be read as a TFDS data set in ArrayRecord files: "
        f"{type(error).__name__}: {first}"
    )


def find(directory: Path) -> Path | None:
    """The latest version of the TFDS data set in `directory`, if one is there.

    Raises:
      UserError: there are several variants of one, such as those of ImageNet V2.
    """
    for pattern in (_INFO, f"*/{_INFO}", f"*/*/{_INFO}"):
        versions = [path.parent for path in directory.glob(pattern)]
        variants = sorted({version.parent for version in versions})
        if len(variants) > 1:
            listed = " or ".join(variant.name for variant in variants)
            raise UserError(f"{directory} holds several data sets; give {listed} of it")
        if versions:
            return max(versions, key=_version)
    return None


def _version(directory: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", directory.name)]


def splits(directory: Path) -> list[str]:
    """The names of its splits.

    Raises:
      UserError: the file that tells them is damaged.
    """
    path = directory / _INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        return [split["name"] for split in info["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); prepare the data set anew"
        ) from None
