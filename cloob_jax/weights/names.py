"""Our parameters under OpenAI's names, and back.

A state dict is flat: names such as `visual.layer1.0.conv1.weight` with NumPy arrays in
PyTorch's layouts. The CLOOB authors and open_clip use the same names, and the other
formats are read into and written from them.
Source of the names: `clip/model.py` of github.com/openai/CLIP.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import DictKey

from cloob_jax.errors import UserError

StateDict = dict[str, np.ndarray]

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


class Place(NamedTuple):
    """Where one of our arrays lies in a state dict.

    Attributes:
      name: of the tensor there.
      third: which third of its rows, for the fused query, key and value; else None.
      axes: the tensor's axes in our order.
    """

    name: str
    third: int | None
    axes: tuple[int, ...]


def place(path: tuple[str, ...], rank: int) -> Place:
    """Where the array at `path` of `params` or `batch_stats` lies."""
    tower, *modules, leaf = path
    prefix = "visual." if tower == "visual" else ""
    third, axes = None, tuple(range(rank))
    if leaf == "kernel":
        # Convolutions are [out, in, h, w] there, linear maps [out, in].
        axes = (2, 3, 1, 0) if rank == 4 else (1, 0)
    if modules == ["projection"]:
        # A bare matrix, applied from the right as here.
        return Place("visual.proj" if prefix else "text_projection", None, (0, 1))
    if "attention" in modules and modules[-1] in _FUSED:
        third = _FUSED[modules[-1]]
        modules[-1] = "in_proj_"
    elif "attention" in modules and modules[-1] == "out":
        modules[-1] = "out_proj"
    words = _POOL_WORDS if "attnpool" in modules else _WORDS
    names = [_numbered(words.get(module, module)) for module in modules]
    name = ".".join([*names, _WORDS.get(leaf, leaf)]).replace("in_proj_.", "in_proj_")
    return Place(prefix + name, third, axes)


def _numbered(module: str) -> str:
    """`block_3` and `layer1_0` as `resblocks.3` and `layer1.0`."""
    return re.sub(r"^(block|layer\d)_(\d+)$", r"\1.\2", module).replace(
        "block.", "resblocks."
    )


def from_state_dict(state: Mapping[str, np.ndarray], abstract: dict) -> dict:
    """Our variables from a state dict.

    Args:
      state: tensors by OpenAI's names, nothing else.
      abstract: `{"params": ..., "batch_stats": ...}` with the shapes that the model
        wants; `batch_stats` may be lacking.

    Returns:
      A tree like `abstract`, in float32.

    Raises:
      UserError: a tensor is missing, left over, or of another shape; all are named.
    """
    problems, used = [], set()

    def fetch(path: tuple[DictKey, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name, third, axes = place(names_of(path), len(leaf.shape))
        used.add(name)
        if name not in state:
            problems.append(f"{name} is missing")
            return np.zeros(0, np.float32)
        tensor = np.asarray(state[name])
        if third is not None and len(tensor) % 3 == 0:
            tensor = np.split(tensor, 3)[third]
        if tensor.ndim != len(axes) or tensor.transpose(axes).shape != leaf.shape:
            expected = np.array(leaf.shape)[np.argsort(axes)].tolist()
            if third is not None:
                expected[0] *= 3
            shape = np.shape(state[name])
            problems.append(f"{name} has shape {shape}, expected {tuple(expected)}")
            return np.zeros(0, np.float32)
        return np.ascontiguousarray(tensor.transpose(axes), np.float32)

    variables = jax.tree.map_with_path(fetch, abstract)
    problems += [f"{name} is left over" for name in state.keys() - used]
    if problems:
        raise UserError("; ".join(_first(sorted(set(problems)))))
    return variables


def to_state_dict(variables: dict) -> StateDict:
    """A state dict of our variables, with the layouts of PyTorch, in float32."""
    state: StateDict = {}
    thirds: dict[str, dict[int, np.ndarray]] = {}
    for path, leaf in jax.tree.leaves_with_path(variables):
        name, third, axes = place(names_of(path), leaf.ndim)
        back = np.argsort(axes)
        tensor = np.ascontiguousarray(np.asarray(leaf, np.float32).transpose(back))
        if third is None:
            state[name] = tensor
        else:
            thirds.setdefault(name, {})[third] = tensor
    for name, parts in thirds.items():
        state[name] = np.concatenate([parts[third] for third in range(3)])
    return state


def names_of(path: tuple[DictKey, ...]) -> tuple[str, ...]:
    """The path below `params` or `batch_stats`."""
    return tuple(str(key.key) for key in path[1:])


def _first(problems: list[str], limit: int = 5) -> Iterable[str]:
    yield from problems[:limit]
    if len(problems) > limit:
        yield f"and {len(problems) - limit} more"
