"""Where image-caption pairs come from: a pattern on the command line becomes a source.

FILE.tar                              shards of img2dataset or WebDataset
FILE.array_record                     ArrayRecord, as `array_records.write` writes it
FILE.array_record-00000-of-00010
FILE.parquet                          img2dataset's, Hugging Face's, or with columns
FILE.csv, .tsv, .txt                  a table of paths of pictures and of captions
FOLDER                                pictures, each with a .txt of its name beside it
tfds:NAME:SPLIT, tfds:FOLDER:SPLIT    prepared by TFDS, in ArrayRecord files
A::B                                  both

For the files of a form, their folder, a glob or a range in braces will do as well;
tars and Parquet may lie behind a URL (`gs://bucket/*.tar`).
"""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from cloob_jax import validation
from cloob_jax.data import folders, patterns, remote_files, tfds
from cloob_jax.data.array_records import ArrayRecords
from cloob_jax.data.csv_rows import CsvRecords
from cloob_jax.data.mixture import Mixture
from cloob_jax.data.parquet import ParquetRecords
from cloob_jax.data.protocol import Source
from cloob_jax.data.tars import TarRecords
from cloob_jax.errors import UserError

_FIELD = "config.data.train"
_Columns = tuple[str, str] | None
_Report = Callable[[int, int], None] | None


@dataclasses.dataclass(frozen=True)
class _Form:
    what: str
    # Opens the files, of which there is one where the form has no files of its own.
    open: Callable[[list, _Columns, _Report], Source]
    file: str = ""  # a pattern of the ends of names
    in_folder: str = ""  # a glob; of several kinds in a folder, the first wins
    has_columns: bool = False
    may_be_remote: bool = False


def build(
    pattern: str,
    columns: str | None = None,
    weights: str | None = None,
    report: _Report = None,
) -> Source:
    """The source that `pattern` names, in one of the forms above.

    Args:
      pattern: what `config.data.train` holds.
      columns: `IMAGE,CAPTION`, the names of these columns where a form has columns;
        None: those that are usual there.
      weights: `2::1`, the ratio in which examples of `A::B` come; None: each record
        comes once an epoch.
      report: is told how many of all tars are indexed.

    Raises:
      UserError: nothing matches, some of a range is missing, or no pair is inside.
    """
    names = validation.parts(pattern)
    ratio = validation.weights(weights, len(names)) if weights else []
    named = validation.columns(columns) if columns else None
    found = [_find(name) for name in names]
    if named and not any(form.has_columns for form, _ in found):
        raise UserError(
            f"config.data.columns={columns}: {found[0][0].what} have no columns; "
            "leave it out"
        )
    parts = [form.open(found_files, named, report) for form, found_files in found]
    return parts[0] if len(parts) == 1 else Mixture(names, parts, ratio)


def _find(name: str) -> tuple[_Form, list]:
    """The form of a part, and its files."""
    if name.startswith("tfds:"):
        return _TFDS, [Path(name)]
    folder = Path(name).expanduser()
    if folder.is_dir() and not remote_files.is_remote(name):
        form = _form_of(folder)
        if form is not None:
            return form, [folder]
    kinds = ", ".join(form.what for form in _FORMS)
    expected = f"{kinds}, folders of pictures with captions or tfds:NAME:SPLIT"
    in_folder = [form.in_folder for form in _FORMS if form.in_folder]
    found = patterns.find(name, _FIELD, in_folder, expected)
    forms = list(dict.fromkeys(_form(name, file.name) for file in found))
    if len(forms) > 1:
        both = " and ".join(form.what for form in forms[:2])
        raise UserError(
            f"{_FIELD}={name}: matches {both}; name one kind, or both as A::B"
        )
    if remote_files.is_remote(name) and not forms[0].may_be_remote:
        far = " and ".join(form.what for form in _FORMS if form.may_be_remote)
        raise UserError(
            f"{_FIELD}={name}: {forms[0].what} are read from local disks alone, "
            f"{far} from afar too; copy them, or mount the storage"
        )
    return forms[0], found


def _form_of(folder: Path) -> _Form | None:
    """The form of a folder that stands for itself; None: for the files in it."""
    if (folder / "dataset_info.json").is_file():
        raise UserError(
            f"{_FIELD}={folder}: it is a TFDS data set: give tfds:{folder}:SPLIT"
        )
    if any(any(folder.glob(form.in_folder)) for form in _FORMS[:2]):
        return None
    # img2dataset leaves Parquet without images beside its pictures.
    if folders.has_pairs(folder):
        return _FOLDER
    if any(folder.glob(_PARQUET.in_folder)):
        return None
    table = next((file for file in folder.iterdir() if _is(_TABLES, file.name)), None)
    advice = f"; give the table itself: {table}" if table else ""
    raise UserError(
        f"{_FIELD}={folder}: holds no "
        f"{', '.join(form.in_folder for form in _FORMS if form.in_folder)}, and no "
        f"picture with a .txt of the same name beside it{advice} (README, Your data)"
    )


def _form(name: str, file: str) -> _Form:
    for form in _FORMS:
        if _is(form, file):
            return form
    raise UserError(
        f"{_FIELD}={name}: {file} has no known ending; expected "
        f"{', '.join(form.what for form in _FORMS)}"
    )


def _is(form: _Form, file: str) -> bool:
    return re.search(form.file, file, re.IGNORECASE) is not None


def _open_tables(found: list[Path], columns: _Columns, report: _Report) -> Source:
    tables = [CsvRecords(_FIELD, file, columns) for file in found]
    return tables[0] if len(tables) == 1 else Mixture(list(map(str, found)), tables)


_TARS = _Form(
    "tars (.tar)",
    lambda found, columns, report: TarRecords(found, "txt", report),
    file=r"\.tar(\.\w+)?$|\.tgz$",
    in_folder="*.tar",
    may_be_remote=True,
)
_ARRAY_RECORD = _Form(
    "ArrayRecord files (.array_record)",
    lambda found, columns, report: ArrayRecords(_FIELD, found),
    file=r"\.array_record(-\d+-of-\d+)?$",
    in_folder="*.array_record*",
)
_PARQUET = _Form(
    "Parquet files (.parquet)",
    lambda found, columns, report: ParquetRecords(_FIELD, found, columns),
    file=r"\.parquet$",
    in_folder="*.parquet",
    has_columns=True,
    may_be_remote=True,
)
_TABLES = _Form(
    "tables (.csv, .tsv, .txt)",
    _open_tables,
    file=r"\.[ct]sv$|\.txt$",
    has_columns=True,
)
_FOLDER = _Form(
    "folders of pictures",
    lambda found, columns, report: folders.FolderPairs(found[0]),
)
_TFDS = _Form(
    "TFDS",
    lambda found, columns, report: tfds.open_pairs(_FIELD, str(found[0]), columns),
    has_columns=True,
)
_FORMS = (_TARS, _ARRAY_RECORD, _PARQUET, _TABLES)  # that have files
