"""Choosing parameters by their paths, as in `visual/transformer/blocks/ln_1`."""

import re
from typing import Any

import jax

from cloob_jax.errors import UserError

_TOWERS = {"image": "^visual/", "text": "^text/"}


def by_path(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths, as in `visual/conv1/kernel`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def select(params: Any, wanted: str | None, field: str) -> Any:
    """Says of each parameter of a model whether it is meant.

    Args:
      params: a tree with `visual` and `text` on top; only its structure is used.
      wanted: `image`, `text`, or an expression found in the path; None means no
        parameter.
      field: the config's, for the message.

    Raises:
      UserError: not a regular expression, or no parameter has it in its path.
    """
    if wanted is None:
        return jax.tree.map(lambda _: False, params)
    try:
        expression = re.compile(_TOWERS.get(wanted, wanted))
    except re.error as error:
        raise UserError(
            f"{field}={wanted}: not a regular expression: {error}"
        ) from None

    def is_meant(path: tuple, _: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return expression.search(name) is not None

    chosen = jax.tree.map_with_path(is_meant, params)
    if not any(jax.tree.leaves(chosen)):
        raise UserError(
            f"{field}={wanted}: no parameter has it in its path; give image, text, or "
            "an expression such as visual/transformer/"
        )
    return chosen
