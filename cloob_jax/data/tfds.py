"""Labelled pictures prepared by TensorFlow Datasets, read without TensorFlow.

The data has to be prepared with `file_format="array_record"`; docs/evaluation.md tells
how for ImageNet.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from cloob_jax.data.protocol import Fault
from cloob_jax.errors import UserError


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
        try:
            import tensorflow_datasets as tfds
        except ImportError:
            raise UserError(
                f"{field}: {directory} is a TFDS data set, which needs "
                "tensorflow_datasets: pip install 'cloob_jax[tfds]'"
            ) from None
        try:
            builder = tfds.builder_from_directory(directory)
            names = list(builder.info.features["label"].names)
            self._records: Any = builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except Exception as error:  # whatever the library makes of a damaged folder
            first, *_ = [*str(error).splitlines(), ""]
            raise UserError(
                f"{field}: {directory} cannot be read as a TFDS data set with `image` "
                "and `label`, in ArrayRecord files: "
                f"{type(error).__name__}: {first}"
            ) from None
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


def find(directory: Path) -> Path | None:
    """The latest version of the TFDS data set in `directory`, if one is there.

    Raises:
      UserError: there are several variants of one, such as those of ImageNet V2.
    """
    for pattern in (
        "dataset_info.json",
        "*/dataset_info.json",
        "*/*/dataset_info.json",
    ):
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
    path = directory / "dataset_info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        return [split["name"] for split in info["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); prepare the data set anew"
        ) from None
