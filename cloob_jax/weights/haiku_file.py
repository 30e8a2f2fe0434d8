"""Reading the pickles of haiku programs without haiku, and without running them.

They hold nested mappings of NumPy arrays, or of JAX arrays, which pickle as NumPy's.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax.weights import restricted

_DEPTH = 12  # of haiku's parameters: 3
_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


def read(path: Path) -> Any:
    """The containers of a pickle, with NumPy arrays in place of all arrays.

    Raises:
      UserError: no such file, damaged, or with anything in it but arrays, plain
        containers and the optimiser's states (which come back empty).
    """
    with restricted.errors_of(path):
        # As a whole: a file's `read` would reserve whatever size it is asked for.
        content = io.BytesIO(path.read_bytes())
        return _plain(_Unpickler(content, _KNOWN).load())


class _Unpickler(restricted.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        root = module.partition(".")[0]
        if root == "optax":
            return _Ignored
        if root == "jax" and name in ("reconstruct_device_array", "_reconstruct_array"):
            return _rebuild_jax
        if root == "haiku" and name in ("FlatMapping", "FlatMap", "frozendict"):
            return dict
        return super().find_class(module, name)


class _Ignored:
    def __new__(cls, *_: Any):
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


class _Dtype:
    """NumPy's own would take any state, of objects and of fields too."""

    def __init__(self, kind: str, *_: Any):
        if kind not in _TYPES:
            raise restricted.Refused(f"holds an array of the type {kind!r}")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in "<>":
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """One of NumPy's, empty until its state comes."""

    value = np.zeros(0, np.float32)

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        self.value = _from_bytes(
            content, dtype, shape, "F" if is_fortran else "C"
        ).value


def _from_bytes(
    content: bytes | bytearray, dtype: _Dtype, shape: tuple, order: Any
) -> _Array:
    array = _Array()
    array.value = np.frombuffer(content, dtype.dtype).reshape(shape, order=order)
    return array


def _rebuild_jax(_: Any, args: tuple, state: tuple, *__: Any) -> _Array:
    array = _Array(*args)
    array.__setstate__(state)
    return array


def _plain(tree: Any, depth: int = 0) -> Any:
    if isinstance(tree, _Array):
        return tree.value
    if depth > _DEPTH:
        raise restricted.Refused("holds containers within containers without end")
    if isinstance(tree, Mapping):
        return {key: _plain(value, depth + 1) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(value, depth + 1) for value in tree]
    return tree if isinstance(tree, (int, float, str, bool)) else None


def _encode(text: str, _: str) -> bytes:
    return text.encode("latin-1")  # how protocols before 3 write bytes


class _NdarrayType:
    """What `numpy.ndarray` stands for: only ever an argument."""


_KNOWN: dict[tuple[str, str], Callable] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _NdarrayType,
}
for _core in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _Array
    _KNOWN[f"{_core}.multiarray", "scalar"] = _Ignored
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _from_bytes
