"""PyTorch's files as `torch.save` writes them, made by hand without PyTorch."""

import collections
import contextlib
import io
import pickle
import sys
import types
import zipfile
from unittest import mock

_STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
}


@contextlib.contextmanager
def modules():
    """Modules whose classes are pickled by the names that PyTorch's have."""
    made = {
        name: types.ModuleType(name) for name in ("torch", "torch._utils", "__torch__")
    }
    for storage in _STORAGES.values():
        kind = type(storage, (), {"__module__": "torch"})
        setattr(made["torch"], storage, kind)

    def rebuild(*arguments):
        """Only its name is pickled; nobody calls it."""

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    made["torch._utils"]._rebuild_tensor_v2 = rebuild
    made["__torch__"].CLIP = type("CLIP", (), {"__module__": "__torch__"})
    with mock.patch.dict(sys.modules, made):
        yield made


class Storage:
    def __init__(self, array):
        self.array = array


class Tensor:
    """A view of a storage: what PyTorch pickles of a tensor."""

    def __init__(self, array, offset=0, size=None, stride=None):
        self.array = array
        steps = [step // array.itemsize for step in array.strides]
        self.view = (offset, size or array.shape, tuple(stride or steps))


def save(path, content, torch):
    """Writes `content` as `torch.save` does."""
    storages = {}

    class Pickler(pickle.Pickler):
        def reducer_override(self, value):
            if not isinstance(value, Tensor):
                return NotImplemented
            rebuild = torch["torch._utils"]._rebuild_tensor_v2
            offset, size, stride = value.view
            hooks = collections.OrderedDict()
            return rebuild, (Storage(value.array), offset, size, stride, False, hooks)

        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            key = str(len(storages))
            storages[key] = value.array.tobytes()
            kind = getattr(torch["torch"], _STORAGES[value.array.dtype.name])
            return ("storage", kind, key, "cpu", value.array.size)

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)


def save_state_dict(path, state, wrap=lambda state: state):
    """Writes NumPy arrays by their names, with `wrap` around them."""
    with modules() as torch:
        tensors = {name: Tensor(array) for name, array in state.items()}
        save(path, wrap(collections.OrderedDict(tensors)), torch)
