"""Real photographs, where they are: CLOOB_JAX_CIFAR10, or data/cifar10."""

import importlib
import json
import os
from pathlib import Path

import pytest

from cloob_jax import train
from cloob_jax.data import labelled, sources

_ROOT = Path(os.environ.get("CLOOB_JAX_CIFAR10", "data/cifar10"))

pytestmark = pytest.mark.skipif(
    not (_ROOT / "classnames.txt").is_file(),
    reason=f"no photographs in {_ROOT}; set CLOOB_JAX_CIFAR10 to CIFAR-10 in "
    "CLIP_benchmark's WebDataset layout, with captions in the train shards",
)


def test_the_shards_are_read_whole():
    source = sources.build(str(_ROOT / "train"))
    assert len(source) == 50_000 and source.faults == []
    assert source.name(0) == ("0.tar", "s0000000") and b"a" in source[0][1]
    test = labelled.open_set("cifar10", str(_ROOT))
    assert len(test) == 10_000 and len(test.class_names) == 10


def test_a_short_run_learns_something(tmp_path):
    config = importlib.import_module("configs.cifar10_tiny").get_config(str(_ROOT))
    config.batch_size, config.total_steps, config.optim.warmup_steps = 64, 40, 20
    config.data.image_size = 32
    train.train_and_evaluate(config, tmp_path)
    [result] = (tmp_path / "eval" / "40").iterdir()
    figures = json.loads(result.read_text())["metrics"]
    assert 0.12 < figures["acc1"] < 1 and figures["acc5"] > 0.55  # chance: 0.1 and 0.5
