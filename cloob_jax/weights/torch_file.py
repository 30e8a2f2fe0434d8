"""Reading PyTorch's files without PyTorch, and without running what they contain.

Since version 1.6 `torch.save` writes a zip: `data.pkl`, a pickle in which each storage
is a reference, and `data/KEY`, its bytes. TorchScript archives have the same two parts.
"""

import collections
import io
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from cloob_jax.errors import UserError
from cloob_jax.weights import restricted

_DTYPES: dict[str, Any] = {
    "BFloat16Storage": ml_dtypes.bfloat16,
    "BoolStorage": np.bool_,
    "ByteStorage": np.uint8,
    "CharStorage": np.int8,
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "IntStorage": np.int32,
    "LongStorage": np.int64,
    "ShortStorage": np.int16,
}


_DEPTH = 30


class _StorageType(NamedTuple):
    dtype: Any


class _Module(dict):
    """A TorchScript module: its attributes by name."""

    def __setstate__(self, state: dict) -> None:
        self.update(state)


def read(path: Path) -> Any:
    """What a file of `torch.save` or `torch.jit.save` holds: containers of arrays.

    Raises:
      UserError: no such file, damaged, of a version before 1.6, or with anything in it
        but tensors and plain containers.
    """
    with restricted.errors_of(path):
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile:
            raise restricted.Refused(
                "no zip archive; it is cut short, or PyTorch before 1.6 wrote it: then "
                "load and save it again with a newer one"
            ) from None
        with archive:
            pickles = [n for n in archive.namelist() if n.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise restricted.Refused("a zip, but not one that torch.save wrote")
            if any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist()):
                raise restricted.Refused("compressed, which torch.save never does")
            folder = pickles[0].removesuffix("data.pkl")
            # Read as a whole, so that its checksum is known before it is followed.
            content = io.BytesIO(archive.read(pickles[0]))
            return _Unpickler(content, archive, folder).load()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of nested mappings under their joined names; the rest is dropped.

    Raises:
      UserError: the mappings hold one another, or are nested as no module's are.
    """
    if prefix.count(".") > _DEPTH:
        raise UserError("holds mappings within mappings without end")
    for name, value in tree.items():
        if isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")


class _Unpickler(restricted.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str):
        super().__init__(file, _KNOWN)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _StorageType(_DTYPES[name])
        if f"{module}.".startswith("__torch__."):
            return _Module
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, storage_type, key, _, count = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise restricted.Refused(f"holds a reference of the unknown kind {kind!r}")
        if key not in self._storages:
            content = self._archive.read(f"{self._folder}data/{key}")
            self._storages[key] = np.frombuffer(content, storage_type.dtype, int(count))
        return self._storages[key]


def _rebuild_tensor(
    storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any
) -> np.ndarray:
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    # No tensor has more elements than its storage, nor any outside.
    if math.prod(size) > storage.size or min(offset, *stride, 0) < 0:
        raise restricted.Refused("holds a tensor larger than its storage")
    if math.prod(size) and last >= storage.size:
        raise restricted.Refused("holds a tensor that reaches past its storage")
    strides = tuple(s * storage.itemsize for s in stride)
    # A view, and not a copy: many tensors may share one storage.
    return np.lib.stride_tricks.as_strided(
        storage[offset:], size, strides, writeable=False
    )


def _rebuild_parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor


def _same(value: Any, *_: Any) -> Any:
    return value


class _Ignored:
    """A NumPy number, as schedulers keep them; nobody asks for it."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_KNOWN: dict[tuple[str, str], Callable] = {
    ("_codecs", "encode"): _Ignored,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "dtype"): _Ignored,
    ("numpy._core.multiarray", "scalar"): _Ignored,
    ("numpy.core.multiarray", "scalar"): _Ignored,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch.jit._pickle", "build_boollist"): _same,
    ("torch.jit._pickle", "build_doublelist"): _same,
    ("torch.jit._pickle", "build_intlist"): _same,
    ("torch.jit._pickle", "build_tensorlist"): _same,
    ("torch.jit._pickle", "restore_type_tag"): _same,
}
