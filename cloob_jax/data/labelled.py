"""Labelled pictures in CLIP_benchmark's WebDataset layout, for zero-shot evaluation.

ROOT/test/{nshards.txt,0.tar,...}      members KEY.jpg and KEY.cls
ROOT/classnames.txt                    one class a line, in the order of the labels
ROOT/zeroshot_classification_templates.txt      one a line, {c} is the class name
"""

import contextlib
import dataclasses
from pathlib import Path

from cloob_jax.data.pictures import Pictures
from cloob_jax.data.sources import find_shards
from cloob_jax.data.tars import TarRecords
from cloob_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledSet(Pictures):
    """Pictures with one label each, and the words for the labels."""

    class_names: list[str]
    templates: list[str]

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
            f"its .cls holds {note[:20]!r}; expected a label from 0 to "
            f"{len(self.class_names) - 1} (classnames.txt)"
        )

    def prompts(self, label: int) -> list[str]:
        """The class's name in every template."""
        name = self.class_names[label]
        return [template.replace("{c}", name) for template in self.templates]


def open_set(name: str, root: str, split: str = "test") -> LabelledSet:
    """Opens `root/split/*.tar` with the words that lie beside it.

    Raises:
      UserError: a part of the layout is missing or empty, named.
    """
    directory = Path(root).expanduser()
    if not directory.is_dir():
        raise UserError(
            f"config.evals.{name}: {directory.resolve()} is no folder; expected "
            "CLIP_benchmark's WebDataset layout there, with classnames.txt"
        )
    class_names = _lines(directory / "classnames.txt", name)
    templates = _lines(directory / "zeroshot_classification_templates.txt", name)
    wrong = [template for template in templates if "{c}" not in template]
    if wrong:
        raise UserError(f"config.evals.{name}: the template {wrong[0]!r} lacks {{c}}")
    records = open_tars(f"config.evals.{name}", directory, split, "cls")
    return LabelledSet(name, records, class_names, templates)


def open_tars(field: str, directory: Path, split: str, companion: str) -> TarRecords:
    """Opens `directory/split/*.tar`, of which an evaluation counts every record.

    Raises:
      UserError: a shard is missing, or anything in them is no whole record.
    """
    shards = find_shards(str(directory / split), field)
    count = directory / split / "nshards.txt"
    if count.is_file() and count.read_text().strip() != str(len(shards)):
        raise UserError(
            f"{field}: {count} says {count.read_text().strip()}, but there "
            f"are {len(shards)} tars beside it; fetch the others"
        )
    records = TarRecords(shards, companion)
    if records.faults:
        fault = records.faults[0]
        raise UserError(
            f"{field}: {fault.shard} {fault.key}: {fault.reason}; an "
            "evaluation counts every picture, so mend or replace the shard"
        )
    return records


def _lines(path: Path, name: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").rstrip().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"config.evals.{name}: {path} cannot be read: {error}"
        ) from None
    lines = [line.strip() for line in lines]
    if "" in lines:
        # Skipping it would shift the labels of all that follow.
        raise UserError(f"config.evals.{name}: {path} is empty or has an empty line")
    return lines
