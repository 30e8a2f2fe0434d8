"""PyTorch's files, made here by hand, so that PyTorch need not be installed."""

import collections
import io
import os
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from cloob_jax.errors import UserError
from cloob_jax.weights import torch_file

_STORAGES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
}


@pytest.fixture
def torch(monkeypatch):
    """Modules whose classes are pickled by the names that PyTorch's have."""
    made = {}
    for name in ("torch", "torch._utils", "__torch__"):
        made[name] = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, made[name])
    for storage in _STORAGES.values():
        kind = type(storage, (), {"__module__": "torch"})
        setattr(made["torch"], storage, kind)

    def rebuild(*arguments):
        """Only its name is pickled; nobody calls it."""

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    made["torch._utils"]._rebuild_tensor_v2 = rebuild
    made["__torch__"].CLIP = type("CLIP", (), {"__module__": "__torch__"})
    return made


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


class Storage:
    def __init__(self, array):
        self.array = array


def test_tensors_and_containers_come_back(tmp_path, torch):
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    content = {
        "epoch": 3,
        "state_dict": collections.OrderedDict(
            whole=Tensor(x),
            half=Tensor(x.astype(np.float16)),
            scalar=Tensor(np.array(7, np.int64)),
            transposed=Tensor(x, 1, (5, 4), (1, 6)),  # x.T[1:]
            empty=Tensor(np.zeros((0, 3), np.float32)),
        ),
        "more": [1, (2.5, None)],
    }
    save(tmp_path / "model.pt", content, torch)
    found = torch_file.read(tmp_path / "model.pt")
    assert (found["epoch"], found["more"]) == (3, [1, (2.5, None)])
    tensors = found["state_dict"]
    np.testing.assert_array_equal(tensors["whole"], x)
    np.testing.assert_array_equal(tensors["transposed"], x.T[1:])
    assert tensors["half"].dtype == np.float16 and tensors["empty"].shape == (0, 3)
    assert tensors["scalar"].shape == () and tensors["scalar"] == 7


def test_a_torchscript_module_is_its_attributes(tmp_path, torch):
    module, inner = torch["__torch__"].CLIP(), torch["__torch__"].CLIP()
    inner.weight, inner.training = Tensor(np.ones(2, np.float32)), False
    module.visual, module.scale = inner, Tensor(np.array(4.6, np.float32))
    save(tmp_path / "model.pt", module, torch)
    found = dict(torch_file.flatten(torch_file.read(tmp_path / "model.pt")))
    assert found.keys() == {"visual.weight", "scale"}


class Malicious:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("place", ["alone", "hidden"])
def test_nothing_that_a_file_contains_is_run(tmp_path, torch, place):
    evil = Malicious(tmp_path / "owned")
    content = evil if place == "alone" else {"state_dict": {"a": [1, {"b": evil}]}}
    save(tmp_path / "model.pt", content, torch)
    with pytest.raises(UserError, match=r"model\.pt: holds posix\.mkdir, which is nei"):
        torch_file.read(tmp_path / "model.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        ((0, (9,), (1,)), "larger than its storage"),
        ((4, (3,), (1,)), "reaches past its storage"),
        ((0, (2,), (5,)), "reaches past its storage"),
        ((0, (10**9,), (0,)), "larger than its storage"),
        ((-2, (1,), (1,)), "larger than its storage"),
    ],
)
def test_a_tensor_stays_within_its_storage(tmp_path, torch, view, reason):
    save(tmp_path / "m.pt", [Tensor(np.zeros(5, np.float32), *view)], torch)
    with pytest.raises(UserError, match=reason):
        torch_file.read(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], "cut short"),
        (lambda content: b"\x80\x02}q\x00.", "PyTorch before 1.6"),
        (lambda content: b"", "no zip archive"),
    ],
)
def test_what_is_no_such_file_says_so(tmp_path, torch, damage, reason):
    path = tmp_path / "model.pt"
    save(path, {"a": Tensor(np.zeros(99, np.float32))}, torch)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"model\.pt: .*{reason}"):
        torch_file.read(path)


def test_a_missing_file_and_another_zip_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.pt: No such file"):
        torch_file.read(tmp_path / "none.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(UserError, match=r"^\S+other\.zip: a zip, but not one"):
        torch_file.read(tmp_path / "other.zip")
