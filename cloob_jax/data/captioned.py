"""Pictures with captions, for retrieval: tars, or a folder and a list of captions.

ROOT/test/{nshards.txt,0.tar,...}      members KEY.jpg and KEY.txt, a caption a line
                                       (CLIP_benchmark's WebDataset layout)
dataset_coco.json and the like         Karpathy's splits: COCO, Flickr8k, Flickr30k
captions_val2017.json                  COCO's own annotations
Flickr8k.token.txt, results.token      FILE#NUMBER, a tab, the caption
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from cloob_jax.data import labelled
from cloob_jax.data.folders import FolderRecords
from cloob_jax.data.pictures import Pictures
from cloob_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class CaptionedSet(Pictures):
    """Pictures with one caption or more each."""

    def read(self, note: bytes) -> list[str]:
        """The captions.

        Raises:
          ValueError: there is none, or they are not UTF-8.
        """
        captions = [line.strip() for line in note.decode("utf-8").split("\n")]
        captions = [caption for caption in captions if caption]
        if not captions:
            raise ValueError("it has no caption")
        return captions


def open_set(
    field: str,
    name: str,
    root: str,
    split: str = "test",
    captions: str | None = None,
) -> CaptionedSet:
    """Opens tars in `root/split`, or the pictures in `root` that a list names.

    Args:
      field: what the user gave it by, for messages.
      name: what results call it.
      root: a folder.
      split: of the tars or of Karpathy's list.
      captions: the list, one of the forms above; None: tars.

    Raises:
      UserError: a part of the layout is missing or empty, named.
    """
    directory = Path(root).expanduser()
    if not directory.is_dir():
        raise UserError(
            f"{field}: {directory.resolve()} is no folder; expected pictures there and "
            f"{field}.captions, or CLIP_benchmark's tars in {split}/"
        )
    if captions is None:
        return CaptionedSet(name, labelled.open_tars(field, directory, split, "txt"))
    path = Path(captions).expanduser()
    found = _read_list(field, path, split)
    bare = [file for file, texts in found.items() if not any(texts)]
    if bare:
        raise UserError(f"{field}.captions={path}: {bare[0]} has no caption; mend it")
    missing = [file for file in found if not (directory / file).is_file()]
    if missing:
        raise UserError(
            f"{field}: {len(missing)} of the {len(found)} pictures that {path} lists "
            f"are not in {directory}, the first is {missing[0]}; fetch them, or point "
            f"{field}.root to where they are"
        )
    notes = {file: "\n".join(texts) for file, texts in found.items()}
    return CaptionedSet(name, FolderRecords(directory, notes))


def _read_list(field: str, path: Path, split: str) -> dict[str, list[str]]:
    """File -> captions, in the order of the list."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{field}.captions={path} cannot be read: {error}") from None
    try:
        found = _tokens(text) if path.suffix != ".json" else _json(text, split)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{field}.captions={path}: expected Karpathy's or COCO's JSON, or lines "
            f"FILE#NUMBER, a tab and a caption; {type(error).__name__}: {error}"
        ) from None
    if not found:
        raise UserError(
            f"{field}.captions={path} has no picture with captions in the split "
            f"{split!r}; set {field}.split"
        )
    return found


def _json(text: str, split: str) -> dict[str, list[str]]:
    content = json.loads(text)
    if "annotations" in content:
        return _coco(content)
    return {
        str(Path(image.get("filepath", ""), image["filename"])): _one_line(
            sentence["raw"] for sentence in image["sentences"]
        )
        for image in content["images"]
        if image["split"] == split
    }


def _coco(content: dict[str, Any]) -> dict[str, list[str]]:
    files = {image["id"]: image["file_name"] for image in content["images"]}
    found: dict[str, list[str]] = {}
    for annotation in content["annotations"]:
        file = files[annotation["image_id"]]
        found.setdefault(file, []).extend(_one_line([annotation["caption"]]))
    return {file: captions for file, captions in found.items() if captions}


def _tokens(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        key, caption = line.split("\t", 1)
        file, _, number = key.rpartition("#")
        int(number)
        found.setdefault(file, []).extend(_one_line([caption]))
    return found


def _one_line(captions: Any) -> list[str]:
    return [" ".join(caption.split()) for caption in captions]
