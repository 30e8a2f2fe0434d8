"""Pickles of haiku programs, without haiku."""

import os
import pickle
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from cloob_jax.errors import UserError
from cloob_jax.weights import haiku_file


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_of_numpy_and_jax_come_back(tmp_path, protocol):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = {
        "params": ({"m": {"w": x.T, "b": x[0]}}, {"n": {"w": jnp.asarray(x)}}),
        "big": x.astype(">f4"),
        "scalar": np.float32(3),
        "epoch": 16,
    }
    path = tmp_path / "slim.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = haiku_file.read(path)
    np.testing.assert_array_equal(found["params"][0]["m"]["w"], x.T)
    np.testing.assert_array_equal(found["params"][0]["m"]["b"], x[0])
    np.testing.assert_array_equal(found["params"][1]["n"]["w"], x)
    np.testing.assert_array_equal(found["big"], x)
    assert found["epoch"] == 16


def named(module, name, **members):
    return type(name, (), {"__module__": module, **members})


def test_older_classes_of_jax_haiku_and_optax(tmp_path, monkeypatch):
    """As programs of 2022 pickled them; such classes are gone from today's."""
    made = {}

    def module(path):
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            made[name] = types.ModuleType(name)
            monkeypatch.setitem(sys.modules, name, made[name])
        return made[path]

    def rebuild(*_):
        """Only its name is pickled."""

    rebuild.__module__ = "jax._src.device_array"
    rebuild.__qualname__ = rebuild.__name__ = "reconstruct_device_array"
    device_array = types.ModuleType("jax._src.device_array")
    device_array.reconstruct_device_array = rebuild
    monkeypatch.setitem(sys.modules, "jax._src.device_array", device_array)
    array = np.arange(4, dtype=np.float32)

    class Device:
        def __reduce__(self):
            function, arguments, state = array.__reduce__()
            return rebuild, (function, arguments, state, {"weak_type": False})

    structures = module("haiku._src.data_structures")
    structures.FlatMapping = named(
        "haiku._src.data_structures",
        "FlatMapping",
        __reduce__=lambda self: (structures.FlatMapping, ({"w": Device()},)),
        __init__=lambda self, *_: None,
    )
    transform = types.ModuleType("optax._src.gone")
    transform.ScaleByAdamState = named("optax._src.gone", "ScaleByAdamState")
    monkeypatch.setitem(sys.modules, "optax._src.gone", transform)
    content = {
        "params": structures.FlatMapping(),
        "opt_state": transform.ScaleByAdamState(),
    }
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(content))
    found = haiku_file.read(tmp_path / "old.pkl")
    np.testing.assert_array_equal(found["params"]["w"], array)


class Executes:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "value, message",
    [
        (Executes(os.system, "touch {}"), "holds posix.system"),
        (Executes(eval, "1"), "holds builtins.eval"),
        (Executes(getattr, "a", "upper"), "holds builtins.getattr"),
        (np.array([object], dtype=object), "array of the type 'O8'"),
        (np.zeros(3, [("a", "f4")]), "array of the type 'V4'"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, value, message):
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps({"params": value}))
    with pytest.raises(UserError, match=message):
        haiku_file.read(path)


class Pointer:
    """An array whose state, as attributes, would make NumPy follow an address."""

    def __reduce__(self):
        interface = {"data": (4096, True), "shape": (64,), "typestr": "<f4"}
        return np.ndarray, (), {"__array_interface__": interface | {"version": 3}}


def test_no_state_becomes_attributes(tmp_path):
    path = tmp_path / "bad.pkl"
    content = {"w": Pointer()}
    path.write_bytes(pickle.dumps(content))
    assert haiku_file.read(path) == {"w": None}


def test_a_few_bytes_reserve_no_memory(tmp_path):
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"}r\xff\xff\xff\x7f.")  # an entry of the memo at 2^31
    assert haiku_file.read(path) == {}


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps([1, "a" * 99])[:-9]])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "bad.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.pkl: damaged"):
        haiku_file.read(path)
