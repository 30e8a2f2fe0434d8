"""Real photographs, where they are: CLOOB_JAX_CIFAR10, or data/cifar10."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloob_jax.data import labelled, sources

_ROOT = Path(__file__).parent.parent
_DATA = Path(os.environ.get("CLOOB_JAX_CIFAR10", _ROOT / "data/cifar10"))

pytestmark = pytest.mark.skipif(
    not (_DATA / "classnames.txt").is_file(),
    reason=f"no photographs in {_DATA}; set CLOOB_JAX_CIFAR10 to CIFAR-10 in "
    "CLIP_benchmark's WebDataset layout, with captions in the train shards",
)


def test_the_shards_are_read_whole():
    source = sources.build(str(_DATA / "train"))
    assert len(source) == 50_000 and source.faults == []
    assert source.name(0) == ("0.tar", "s0000000") and b"a" in source[0][1]
    test = labelled.open_set("config.evals.cifar10", "cifar10", str(_DATA))
    assert len(test) == 10_000 and len(test.class_names) == 10


def test_a_short_run_learns_something(tmp_path):
    config = f"--config=configs/cifar10_tiny.py:{_DATA}"
    settings = {
        "objective.name": "clip",  # which leaves the start behind sooner
        "total_steps": 400,
        "batch_size": 64,
        "optim.warmup_steps": 50,
        "data.image_size": 32,
    }
    flags = [f"--config.{field}={value}" for field, value in settings.items()]
    command = [sys.executable, "-m", "cloob_jax.main", config, *flags]
    # Long enough for the optimisations that the tests do without.
    environment = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
        "JAX_NUM_CPU_DEVICES": "1",
    }
    subprocess.run(
        [*command, f"--workdir={tmp_path}"], cwd=_ROOT, env=environment, check=True
    )
    [result] = (tmp_path / "eval" / "400").glob("*.json")
    figures = json.loads(result.read_text())["metrics"]
    # Chance: 0.1 and 0.5.
    assert 0.25 < figures["acc1"] < 1 and figures["acc5"] > 0.75, figures
