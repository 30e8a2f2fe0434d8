"""Evaluators: what a pair of encoders is worth, and how to build them from a config."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from cloob_jax.data import captioned, labelled
from cloob_jax.errors import UserError
from cloob_jax.evaluators.embedder import Embedder
from cloob_jax.evaluators.linear_probe import FewShot, LinearProbe
from cloob_jax.evaluators.protocol import Evaluator
from cloob_jax.evaluators.retrieval import Retrieval
from cloob_jax.evaluators.spectrum import Spectrum
from cloob_jax.evaluators.zero_shot import ZeroShot

__all__ = [
    "KINDS",
    "PUBLISHED_BETA",
    "Embedder",
    "Evaluator",
    "FewShot",
    "LinearProbe",
    "Retrieval",
    "Spectrum",
    "ZeroShot",
    "build",
]

# Of the retrieval in CLOOB as published on CC3M.
PUBLISHED_BETA = 8.0
KINDS = ("zero_shot", "retrieval", "linear_probe", "few_shot", "spectrum")


def build(
    evals: Mapping[str, ConfigDict],
    *,
    beta: float,
    field: Callable[[str], str] = "config.evals.{}".format,
) -> dict[str, Evaluator]:
    """One evaluator for each entry of `config.evals`.

    Args:
      evals: name -> entry, see `configs/common.py`; one without a root is left out.
      beta: the scaling of the Hopfield retrieval, for spectra.
      field: from the name of an entry to what messages call it.

    Raises:
      UserError: an unknown kind, or data that is not where the entry says.
    """
    opener = _Opener()
    evaluators: dict[str, Evaluator] = {}
    for name, entry in evals.items():
        kind = entry.kind
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, 1, cutoff=0)
            raise UserError(
                f"{field(name)}.kind={kind}: unknown; did you mean {near[0]}? There "
                f"are {', '.join(KINDS)}"
            )
        interval = entry.get("eval_steps")
        if interval is not None and interval < 1:
            raise UserError(f"{field(name)}.eval_steps={interval}: expected at least 1")
        if not entry.root:
            continue
        evaluators[name] = _make(
            opener, field(name), entry.get("dataset") or name, entry, beta
        )
    return evaluators


def _make(
    opener: "_Opener", field: str, name: str, entry: ConfigDict, beta: float
) -> Evaluator:
    if entry.kind == "retrieval":
        return Retrieval(opener.captioned(field, name, entry))
    if entry.kind == "spectrum":
        return Spectrum(opener.captioned(field, name, entry), beta)
    test = opener.labelled(field, name, entry, entry.split)
    if entry.kind == "zero_shot":
        return ZeroShot(test)
    train = opener.labelled(field, name, entry, "train")
    if entry.kind == "few_shot":
        return FewShot(train, test)
    # What was opened as the test split, for want of one, is none to choose by.
    others = [split for split in ("validation", "val") if split != test.split]
    given = [split for split in others if labelled.has_split(entry.root, split)]
    validation = opener.labelled(field, name, entry, given[0]) if given else None
    return LinearProbe(train, test, validation)


class _Opener:
    """Opens each data set once, so that all evaluators share its embeddings."""

    def __init__(self) -> None:
        self._opened: dict[tuple, Any] = {}

    def labelled(
        self, field: str, name: str, entry: ConfigDict, split: str
    ) -> labelled.LabelledSet:
        key = "labelled", name, entry.root, split
        if key not in self._opened:
            self._opened[key] = labelled.open_set(field, name, entry.root, split)
        return self._opened[key]

    def captioned(
        self, field: str, name: str, entry: ConfigDict
    ) -> captioned.CaptionedSet:
        captions = entry.get("captions") or None
        key = "captioned", name, entry.root, entry.split, captions
        if key not in self._opened:
            self._opened[key] = captioned.open_set(
                field, name, entry.root, entry.split, captions
            )
        return self._opened[key]
