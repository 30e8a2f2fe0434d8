"""Evaluators: what a pair of encoders is worth, and how to build one from a config."""

import difflib

from ml_collections import ConfigDict

from cloob_jax.data import labelled
from cloob_jax.errors import UserError
from cloob_jax.evaluators.protocol import Embed, Evaluator
from cloob_jax.evaluators.zero_shot import ZeroShot
from cloob_jax.tokenizer import Tokenizer

__all__ = ["Embed", "Evaluator", "ZeroShot", "build"]

_KINDS = {"zero_shot": ZeroShot}


def build(
    evals: ConfigDict, *, tokenizer: Tokenizer, image_size: int, batch_size: int
) -> dict[str, ZeroShot]:
    """One evaluator for each entry of `config.evals`.

    Args:
      evals: name -> `{kind, root, split}`; an entry without a root is left out.
      tokenizer: of the text encoder.
      image_size: pixels on a side, of the image encoder.
      batch_size: pictures embedded at a time.

    Raises:
      UserError: an unknown kind, or data that is not where the entry says.
    """
    evaluators = {}
    for name, entry in evals.items():
        if entry.kind not in _KINDS:
            near = difflib.get_close_matches(entry.kind, _KINDS, 1, cutoff=0)
            raise UserError(
                f"config.evals.{name}.kind={entry.kind}: unknown; did you mean "
                f"{near[0]}? There are {', '.join(_KINDS)}"
            )
        if not entry.root:
            continue
        dataset = labelled.open_set(name, entry.root, entry.split)
        evaluators[name] = _KINDS[entry.kind](
            dataset, tokenizer, image_size, batch_size
        )
    return evaluators
