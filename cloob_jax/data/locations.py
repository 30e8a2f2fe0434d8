"""Where a data set lies that is known by name, in a folder of data sets."""

from pathlib import Path

from cloob_jax.data import class_words
from cloob_jax.errors import UserError

_CAPTIONED = (
    {"mscococaptions", "mscoco", "coco", "cococaptions"},
    {"flickr8k"},
    {"flickr30k"},
)


def find(field: str, name: str, data_dir: str) -> Path:
    """The folder of a data set, in the folder `data_dir` or one below.

    Known are CLIP_benchmark's names (`wds/vtab/flowers`, a folder `wds_vtab-flowers`)
    and those of TFDS; another set has the name of its folder.

    Raises:
      UserError: there is none, or more than one.
    """
    directory = Path(data_dir).expanduser()
    if not directory.is_dir():
        raise UserError(f"--data_dir={data_dir}: no such folder")
    plain = class_words.plain_name(name)
    wanted = class_words.same_names(name).union(*(s for s in _CAPTIONED if plain in s))
    found = [
        folder
        for folder in (*directory.glob("*"), *directory.glob("*/*"), directory)
        if folder.is_dir() and _names(folder) & wanted
    ]
    if not found:
        raise UserError(
            f"{field}: no data set {name} in {directory.resolve()}; looked there "
            f"and one below for {' or '.join(sorted(wanted))}, in any spelling, with "
            "wds_ or vtab- before it or not"
        )
    if len(found) > 1:
        raise UserError(
            f"{field}: {' and '.join(map(str, found))} are both {name}; give the "
            "folder of one as --data_dir"
        )
    return found[0]


def _names(folder: Path) -> set[str]:
    parts = folder.name, "/".join(folder.parts[-2:])
    return {class_words.plain_name(part) for part in parts}
