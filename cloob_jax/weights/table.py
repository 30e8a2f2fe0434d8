"""What became of every tensor, for a person to read."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from cloob_jax.weights.names import Naming, Place, names_of, places

# Of a layer or block: in `layer1.0.bn1`, `layer1_0/bn1`, `blocks[0]/ln_1`.
_NUMBER = re.compile(r"((?<=\.)\d+(?=\.)|(?<=layer\d_)\d+|(?<=layer_)\d+|(?<=\[)\d+)")


def mapping(
    variables: Any, naming: Naming, tensors: Mapping[str, np.ndarray] | None = None
) -> str:
    """Says which tensor is which array of ours, numbered ones of one shape in one line.

    Args:
      variables: `params` and, for a residual network, `batch_stats`.
      naming: of the format.
      tensors: of the file, for their types; None for what is written, in float32.
    """
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for ours, array, place in _pairs(variables, naming):
        kind = "float32" if tensors is None else str(tensors[place.name].dtype)
        there, here = _NUMBER.sub("#", place.name), _NUMBER.sub("#", ours)
        sizes = _times(place.shape_there(array)), _times(array)
        key = (there, sizes[0], kind, here, sizes[1])
        groups.setdefault(key, []).append((place.name, ours))
    rows = [("tensor", "shape", "type", "array", "shape, float32")]
    for (_, size, kind, _, array_size), pairs in groups.items():
        names_there, names_here = zip(*pairs, strict=True)
        rows.append((_ranges(names_there), size, kind, _ranges(names_here), array_size))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _pairs(
    variables: Any, naming: Naming
) -> Iterator[tuple[str, tuple[int, ...], Place]]:
    """Name, shape and place of every array, the layers of transformers one by one."""
    shapes = {path: leaf.shape for path, leaf in jax.tree.leaves_with_path(variables)}
    for path, found in places(variables, naming):
        name, shape = "/".join(names_of(path)), shapes[path]
        if "blocks" not in names_of(path):
            yield name, shape, found[0]
            continue
        for layer, place in enumerate(found):
            yield name.replace("blocks", f"blocks[{layer}]"), shape[1:], place


def _ranges(names: tuple[str, ...]) -> str:
    """`a.{0..11}.b` for names that differ in their numbers."""
    parts = [_NUMBER.split(name) for name in names]
    merged = []
    for values in zip(*parts, strict=True):
        numbers = sorted({int(v) for v in values if v.isdigit()})
        is_one = len(set(values)) == 1
        merged.append(values[0] if is_one else f"{{{numbers[0]}..{numbers[-1]}}}")
    return "".join(merged)


def _times(shape: Any) -> str:
    return "x".join(map(str, shape)) or "1"
