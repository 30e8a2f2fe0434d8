"""Files by a pattern: a path, a folder, a glob, or a range in braces as in a shell."""

import concurrent.futures
import difflib
import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cloob_jax.data import remote_files
from cloob_jax.errors import UserError


def find(
    pattern: str, field: str, in_folder: Sequence[str], expected: str
) -> list[Path] | list[remote_files.RemoteFile]:
    """The files that `pattern` names, in the natural order of their names.

    Args:
      pattern: a file, a folder, a glob (`/data/*.tar`) or braces
        (`/data/{00000..00331}.tar`), on a disk or behind a URL (`gs://bucket/*.tar`).
      field: the config field it came from, for the message.
      in_folder: globs of the kinds of files that a folder stands for; of the first
        kind that is there, all.
      expected: what can be read there, for the message.

    Raises:
      UserError: nothing matches, some of a range is missing, or a storage cannot be
        reached.
    """
    names = expand_braces(pattern)
    matches: list[list]
    if remote_files.is_remote(pattern):
        matches = _find_remote(f"{field}={pattern}", names, in_folder)
    else:
        matches = [_match(name, in_folder) for name in names]
    for found in matches:
        found.sort(key=_natural)
    if not any(matches):
        raise UserError(
            f"{field}={pattern}: no such file{_nearest(names[0])}; point "
            f"--{field} to {expected}, by a file, a folder, a glob (*) or a range "
            "({00000..00331}); see README, Your data"
        )
    missing = [name for name, found in zip(names, matches, strict=True) if not found]
    if missing:
        raise UserError(
            f"{field}={pattern}: {len(missing)} of {len(names)} files are missing, the "
            f"first is {missing[0]}; correct the range, or use a glob (*) to take what "
            "there is"
        )
    return list(itertools.chain.from_iterable(matches))


def expand_braces(pattern: str) -> list[str]:
    """Expands `{000..012}` (keeping zeros) and `{a,b}` as a shell does."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    before, after = pattern[: found.start()], pattern[found.end() :]
    limits = re.fullmatch(r"(\d+)\.\.(\d+)", found.group(1))
    if limits:
        first, last = limits.groups()
        step = 1 if int(first) <= int(last) else -1
        numbers = range(int(first), int(last) + step, step)
        choices: Sequence[str] = [f"{number:0{len(first)}d}" for number in numbers]
    else:
        choices = found.group(1).split(",")
    return [
        before + choice + rest for choice in choices for rest in expand_braces(after)
    ]


def _find_remote(
    field: str, names: Sequence[str], in_folder: Sequence[str]
) -> list[list[remote_files.RemoteFile]]:
    try:
        # Threads, since each is a request.
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            return list(
                pool.map(lambda name: remote_files.find(name, in_folder), names)
            )
    except Exception as error:  # each library has errors of its own
        first, *_ = [*str(error).splitlines(), ""]
        raise UserError(f"{field}: {type(error).__name__}: {first}") from None


def below_common_folder(found: Sequence[Path | remote_files.RemoteFile]) -> list[str]:
    """Short names, with the folder where files of one name lie in several."""
    paths = [str(file) for file in found]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, folder) for path in paths]


def nearest(name: str, others: Sequence[str]) -> str | None:
    """The one of the others that is most like `name`, if any is at all."""
    return next(iter(difflib.get_close_matches(name, others, 1, cutoff=0.3)), None)


def _match(name: str, in_folder: Sequence[str]) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_dir():
        for kind in in_folder:
            # Hidden files are other programs', or not whole yet.
            visible = [f for f in path.glob(kind) if not f.name.startswith(".")]
            if visible:
                return visible
        return []
    if path.is_file():
        return [path]
    return [Path(match) for match in glob.glob(str(path)) if Path(match).is_file()]


def _natural(path: Path | remote_files.RemoteFile) -> list:
    """Orders 2.tar before 10.tar, whatever the zeros."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdigit() else part for part in parts]


def _nearest(name: str) -> str:
    """Where the first name was looked for, and what lies there."""
    if remote_files.is_remote(name):
        return ""
    path = Path(name).expanduser()
    if path.is_dir():
        return f"; looked in {path.resolve()}, which holds none of them"
    folder = path.parent.resolve()
    if not folder.is_dir():
        return f"; looked in {folder}, which does not exist"
    similar = nearest(path.name, [entry.name for entry in folder.iterdir()])
    return f"; looked in {folder}, " + (
        f"where the nearest name is {similar}" if similar else "which has none"
    )
