"""Evaluators from a config: which splits they get, and what they share."""

import pytest
from ml_collections import ConfigDict
from test_labelled import write_folder

from cloob_jax import evaluators
from cloob_jax.errors import UserError


def build(root, **kinds):
    entries = {
        name: ConfigDict(
            {"kind": kind, "root": str(root), "split": "test", "dataset": "mine"}
        )
        for name, kind in kinds.items()
    }
    return evaluators.build(entries, beta=8.0)


def write(root, *splits):
    counts = {f"{split}/{name}": 1 for split in splits for name in ("cat", "dog")}
    return write_folder(root, counts)


def test_what_is_tested_on_is_never_chosen_by(tmp_path):
    # ImageNet's form: the test labels are secret, and val is what people test on.
    made = build(write(tmp_path, "train", "val"), probe="linear_probe")
    assert made["probe"].dataset.split == "val" and made["probe"].validation is None
    made = build(write(tmp_path / "all", "train", "val", "test"), probe="linear_probe")
    splits = made["probe"].train, made["probe"].validation, made["probe"].dataset
    assert [part.split for part in splits] == ["train", "val", "test"]


def test_all_share_what_is_opened(tmp_path):
    root = write(tmp_path, "train", "test")
    made = build(root, a="zero_shot", b="few_shot", c="linear_probe")
    assert made["a"].dataset is made["b"].dataset is made["c"].dataset
    assert made["b"].train is made["c"].train


def test_a_folder_without_splits_is_no_train_split(tmp_path):
    root = write(tmp_path, ".")
    assert build(root, a="zero_shot")["a"].dataset.split == "test"
    with pytest.raises(UserError, match=r"evals\.b: no data set in .*train/"):
        build(root, b="linear_probe")
