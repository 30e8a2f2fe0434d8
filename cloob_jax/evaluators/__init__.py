"""Evaluators: what a pair of encoders is worth, and how to build one from a config."""

import difflib

from ml_collections import ConfigDict

from cloob_jax.data import captioned, labelled
from cloob_jax.errors import UserError
from cloob_jax.evaluators.embedder import Embedder
from cloob_jax.evaluators.protocol import Evaluator
from cloob_jax.evaluators.retrieval import Retrieval
from cloob_jax.evaluators.zero_shot import ZeroShot

__all__ = ["Embedder", "Evaluator", "Retrieval", "ZeroShot", "build"]


def _zero_shot(name: str, entry: ConfigDict) -> Evaluator:
    return ZeroShot(labelled.open_set(name, entry.root, entry.split))


def _retrieval(name: str, entry: ConfigDict) -> Evaluator:
    captions = entry.get("captions") or None
    return Retrieval(captioned.open_set(name, entry.root, entry.split, captions))


_KINDS = {"zero_shot": _zero_shot, "retrieval": _retrieval}


def build(evals: ConfigDict) -> dict[str, Evaluator]:
    """One evaluator for each entry of `config.evals`.

    Args:
      evals: name -> `{kind, root, split}`, of kind `retrieval` also `captions`, a list
        beside a folder of pictures; an entry without a root is left out.

    Raises:
      UserError: an unknown kind, or data that is not where the entry says.
    """
    evaluators: dict[str, Evaluator] = {}
    for name, entry in evals.items():
        if entry.kind not in _KINDS:
            near = difflib.get_close_matches(entry.kind, _KINDS, 1, cutoff=0)
            raise UserError(
                f"config.evals.{name}.kind={entry.kind}: unknown; did you mean "
                f"{near[0]}? There are {', '.join(_KINDS)}"
            )
        if entry.root:
            evaluators[name] = _KINDS[entry.kind](name, entry)
    return evaluators
