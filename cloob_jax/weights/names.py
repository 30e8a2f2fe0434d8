"""Our parameters under other names, and back.

A state dict is flat: names such as `visual.layer1.0.conv1.weight` with NumPy arrays. A
`Naming` says where each of our arrays lies in the state dicts of one format, with the
layers of a transformer one by one; reading and writing are the same for all of them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from cloob_jax.errors import UserError

StateDict = Mapping[str, np.ndarray]


class Place(NamedTuple):
    """Where one of our arrays lies in a state dict.

    Attributes:
      name: of the tensor there.
      axes: the tensor's axes in our order.
      third: which third of its rows, for the fused query, key and value; else None.
    """

    name: str
    axes: tuple[int, ...]
    third: int | None = None

    def shape_there(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The tensor's shape, from that of our array."""
        turned = tuple(shape[self.axes.index(axis)] for axis in range(len(shape)))
        return turned if self.third is None else (3 * turned[0], *turned[1:])


# (path below `params` or `batch_stats`, rank) -> place. The path of a layer's array has
# `block_3` in place of `blocks`, and its rank is without the axis of layers.
Naming = Callable[[tuple[str, ...], int], Place]

_WORDS = {
    "attention": "attn",
    "downsample_bn": "downsample.1",
    "downsample_conv": "downsample.0",
    "embedding": "weight",
    "fc": "c_fc",
    "kernel": "weight",
    "mean": "running_mean",
    "patch_embedding": "conv1",
    "proj": "c_proj",
    "scale": "weight",
    "var": "running_var",
}
_POOL_WORDS = {"key": "k_proj", "out": "c_proj", "query": "q_proj", "value": "v_proj"}
_FUSED = {"query": 0, "key": 1, "value": 2}


def torch_axes(leaf: str, rank: int) -> tuple[int, ...]:
    """PyTorch's axes in our order: its convolutions are [out, in, h, w]."""
    if leaf != "kernel":
        return tuple(range(rank))
    return (2, 3, 1, 0) if rank == 4 else (1, 0)


def openai(path: tuple[str, ...], rank: int) -> Place:
    """The names of OpenAI, open_clip and the CLOOB authors.

    Source: `clip/model.py` of github.com/openai/CLIP.
    """
    tower, *modules, leaf = path
    prefix = "visual." if tower == "visual" else ""
    third, axes = None, torch_axes(leaf, rank)
    if modules == ["projection"]:
        # A bare matrix, applied from the right as here.
        return Place("visual.proj" if prefix else "text_projection", (0, 1))
    if "attention" in modules and modules[-1] in _FUSED:
        third = _FUSED[modules[-1]]
        modules[-1] = "in_proj_"
    elif "attention" in modules and modules[-1] == "out":
        modules[-1] = "out_proj"
    words = _POOL_WORDS if "attnpool" in modules else _WORDS
    names = [_numbered(words.get(module, module)) for module in modules]
    name = ".".join([*names, _WORDS.get(leaf, leaf)]).replace("in_proj_.", "in_proj_")
    return Place(prefix + name, axes, third)


def _numbered(module: str) -> str:
    """`block_3` and `layer1_0` as `resblocks.3` and `layer1.0`."""
    return re.sub(r"^(block|layer\d)_(\d+)$", r"\1.\2", module).replace(
        "block.", "resblocks."
    )


def places(abstract: Any, naming: Naming) -> Iterator[tuple[tuple, list[Place]]]:
    """Each of our arrays' paths, and where it lies: one place, or one a layer.

    Args:
      abstract: `{"params": ..., "batch_stats": ...}`, arrays or their shapes.
      naming: of the format.
    """
    for path, leaf in jax.tree.leaves_with_path(abstract):
        yield path, _places_of(path, leaf, naming)


def _places_of(path: tuple, leaf: Any, naming: Naming) -> list[Place]:
    names = names_of(path)
    if "blocks" not in names:
        return [naming(names, len(leaf.shape))]
    at = names.index("blocks")
    return [
        naming((*names[:at], f"block_{layer}", *names[at + 1 :]), len(leaf.shape) - 1)
        for layer in range(leaf.shape[0])
    ]


def from_state_dict(state: StateDict, abstract: Any, naming: Naming) -> Any:
    """Our variables from a state dict.

    Args:
      state: tensors by their names, nothing else.
      abstract: `{"params": ..., "batch_stats": ...}` with the shapes that the model
        wants; `batch_stats` may be lacking.
      naming: of the format.

    Returns:
      A tree like `abstract`, in float32.

    Raises:
      UserError: a tensor is missing, left over, or of another shape; all are named.
    """
    problems, used = [], set()

    def fetch(place: Place, shape: tuple[int, ...]) -> np.ndarray:
        used.add(place.name)
        expected = place.shape_there(shape)
        if place.name not in state:
            problems.append(f"{place.name} is missing")
        elif state[place.name].shape != expected:
            found = state[place.name].shape
            problems.append(f"{place.name} has shape {found}, expected {expected}")
        else:
            tensor = state[place.name]
            if place.third is not None:
                tensor = np.split(tensor, 3)[place.third]
            return tensor.transpose(place.axes).astype(np.float32)
        return np.zeros(shape, np.float32)

    def gather(path: tuple, leaf: Any) -> np.ndarray:
        found = _places_of(path, leaf, naming)
        if "blocks" not in names_of(path):
            return np.ascontiguousarray(fetch(found[0], leaf.shape))
        return np.stack([fetch(place, leaf.shape[1:]) for place in found])

    variables = jax.tree.map_with_path(gather, abstract)
    problems += [f"{name} is left over" for name in state.keys() - used]
    if problems:
        raise UserError("; ".join(_first(sorted(set(problems)))))
    return variables


def to_state_dict(variables: Any, naming: Naming) -> dict[str, np.ndarray]:
    """A state dict of our variables, in float32."""
    state: dict[str, np.ndarray] = {}
    thirds: dict[str, dict[int, np.ndarray]] = {}
    for path, leaf in jax.tree.leaves_with_path(variables):
        array = np.asarray(leaf, np.float32)
        layers = array if "blocks" in names_of(path) else array[None]
        for place, layer in zip(_places_of(path, leaf, naming), layers, strict=True):
            tensor = np.ascontiguousarray(layer.transpose(np.argsort(place.axes)))
            if place.third is None:
                state[place.name] = tensor
            else:
                thirds.setdefault(place.name, {})[place.third] = tensor
    for name, parts in thirds.items():
        state[name] = np.concatenate([parts[third] for third in range(3)])
    return state


def names_of(path: tuple) -> tuple[str, ...]:
    """The path below `params` or `batch_stats`."""
    return tuple(str(key.key) for key in path[1:])


def _first(problems: list[str], limit: int = 5) -> Iterable[str]:
    yield from problems[:limit]
    if len(problems) > limit:
        yield f"and {len(problems) - limit} more"
