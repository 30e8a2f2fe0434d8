"""Where image-caption pairs come from: a pattern on the command line becomes a source.

FILE.tar                              shards of img2dataset or WebDataset
FILE.parquet                          img2dataset's, Hugging Face's, or with columns
FILE.csv, .tsv, .txt                  a table of paths of pictures and of captions
FILE.array_record                     ArrayRecord, as `array_records.write` writes it
FILE.array_record-00000-of-00010
A::B                                  both

A file stands for a folder, a glob or a range in braces just as well.
"""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from cloob_jax import validation
from cloob_jax.data import patterns
from cloob_jax.data.array_records import ArrayRecords
from cloob_jax.data.csv_rows import CsvRecords
from cloob_jax.data.mixture import Mixture
from cloob_jax.data.parquet import ParquetRecords
from cloob_jax.data.protocol import Source
from cloob_jax.data.tars import TarRecords
from cloob_jax.errors import UserError

_FIELD = "config.data.train"
_Columns = tuple[str, str] | None


def build(
    pattern: str, columns: str | None = None, weights: str | None = None
) -> Source:
    """The source that `pattern` names, in one of the forms above.

    Args:
      pattern: what `config.data.train` holds.
      columns: `IMAGE,CAPTION`, the names of these columns where a form has columns;
        None: those that are usual there.
      weights: `2::1`, the ratio in which examples of `A::B` come; None: each record
        comes once an epoch.

    Raises:
      UserError: nothing matches, some of a range is missing, or no pair is inside.
    """
    names = validation.parts(pattern)
    ratio = validation.weights(weights, len(names)) if weights else []
    named = validation.columns(columns) if columns else None
    parts = [_open(name, named) for name in names]
    if len(parts) == 1:
        return parts[0]
    return Mixture(names, parts, ratio)


def _open(name: str, columns: _Columns) -> Source:
    files = patterns.find(name, _FIELD, [form.in_folder for form in _FORMS])
    forms = list(dict.fromkeys(_form(name, file) for file in files))
    if len(forms) > 1:
        both = " and ".join(form.what for form in forms[:2])
        raise UserError(
            f"{_FIELD}={name}: matches {both}; name one kind, or both as A::B"
        )
    return forms[0].open(files, columns)


def _form(name: str, file: Path) -> "_Form":
    for form in _FORMS:
        if re.search(form.file, file.name, re.IGNORECASE):
            return form
    raise UserError(
        f"{_FIELD}={name}: {file.name} has no known ending; expected "
        f"{', '.join(form.what for form in _FORMS)}"
    )


def _tars(files: list[Path], columns: _Columns) -> Source:
    del columns
    return TarRecords(files, companion="txt")


def _tables(files: list[Path], columns: _Columns) -> Source:
    tables = [CsvRecords(_FIELD, file, columns) for file in files]
    return tables[0] if len(tables) == 1 else Mixture(list(map(str, files)), tables)


def _array_records(files: list[Path], columns: _Columns) -> Source:
    del columns
    return ArrayRecords(_FIELD, files)


def _parquet(files: list[Path], columns: _Columns) -> Source:
    return ParquetRecords(_FIELD, files, columns)


@dataclasses.dataclass(frozen=True)
class _Form:
    what: str
    file: str  # pattern of the ends of names
    in_folder: str  # what a folder stands for; of several kinds, the first wins
    open: Callable[[list[Path], _Columns], Source]


_FORMS = (
    _Form("tars (.tar)", r"\.tar(\.\w+)?$|\.tgz$", "*.tar", _tars),
    _Form(
        "ArrayRecord (.array_record)",
        r"\.array_record(-\d+-of-\d+)?$",
        "*.array_record*",
        _array_records,
    ),
    _Form("Parquet (.parquet)", r"\.parquet$", "*.parquet", _parquet),
    _Form("tables (.csv, .tsv, .txt)", r"\.[ct]sv$|\.txt$", "", _tables),
)
