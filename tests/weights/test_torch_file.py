"""PyTorch's files, made here by hand, so that PyTorch need not be installed."""

import collections
import os
import zipfile

import numpy as np
import pytest
import torch_archive
from torch_archive import Tensor, save

from cloob_jax.errors import UserError
from cloob_jax.weights import torch_file


@pytest.fixture
def torch():
    with torch_archive.modules() as made:
        yield made


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
