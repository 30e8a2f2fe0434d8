"""The command as a user runs it: a whole run, kills, signals, and every mistake."""

import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import jax
import numpy as np
import pytest
from forked import Forked
from PIL import Image
from test_tokenizer_file import write

from cloob_jax import program, sharding
from cloob_jax.checkpoint import Checkpoints
from cloob_jax.data import shapes
from cloob_jax.data.shapes import captions

_ROOT = Path(__file__).parent.parent
_STEPS = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    shapes.generate(folder, num_train=200, num_test=24, image_size=32, num_processes=1)
    # With CLIP's, the table of tokens would be most of what is computed and saved.
    words = (*captions.SHAPE_WORDS, *captions.COLOUR_WORDS)
    write(folder / "words.json", words=words)
    return folder


def arguments(data, workdir, **overrides):
    settings = {
        "data.shapes.num_train": 200,
        "data.shapes.num_test": 24,
        "data.image_size": 32,
        "data.tokenizer": data / "words.json",
        "batch_size": 16,
        "total_steps": _STEPS,
        "optim.warmup_steps": 4,
        "log_steps": 2,
        "checkpoint_steps": 5,
        "eval_steps": 12,
        # Retrieval and the spectrum are measured in test_train.
        "evals.captions.root": "",
        "evals.spectrum.root": "",
    } | overrides
    flags = [f"--config.{field}={value}" for field, value in settings.items()]
    config = f"--config=configs/shapes_tiny.py:{data}"
    return [config, f"--workdir={workdir}", *flags]


def start(*flags):
    return subprocess.Popen(
        [sys.executable, "-m", "cloob_jax.main", *map(str, flags)],
        cwd=_ROOT,
        env=os.environ | {name.upper(): str(v) for name, v in forked.SETTINGS.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def run(*flags):
    return finish(start(*flags))


def run_forked(*flags):
    return finish(Forked(flags))


def wait_for_step(workdir, step, process):
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        if any(line["step"] >= step for line in metrics(workdir)):
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached: {process.communicate()[0]}")


def metrics(workdir):
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def final_state(data, workdir):
    config = importlib.import_module("configs.shapes_tiny").get_config()
    config.batch_size, config.total_steps, config.data.image_size = 16, _STEPS, 32
    config.data.tokenizer = str(data / "words.json")
    config.optim.warmup_steps = 4
    parts = program.build(config, sharding.make_mesh())
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == _STEPS
        return jax.device_get(checkpoints.restore(_STEPS, parts.abstract_state))


def assert_bit_identical(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The run directory and the output of a run that nobody interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    code, output = run(*arguments(data, workdir))
    assert code == 0, output
    return workdir, output


def test_a_run_leaves_its_directory(finished):
    workdir, _ = finished
    names = {path.name for path in workdir.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "log.txt", "checkpoints", "eval"}
    assert list((workdir / "tensorboard").iterdir())
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 16
    with Image.open(workdir / "samples.png") as sheet:
        assert sheet.size[0] > 500
    train = [line for line in metrics(workdir) if "train/loss" in line]
    assert [line["step"] for line in train] == [1, *range(2, _STEPS + 1, 2)]
    assert train[-1]["examples_seen"] == 16 * _STEPS
    assert train[-1].keys() >= {
        "train/lr",
        "train/samples_per_second",
        "train/data_wait_fraction",
        "train/grad_norm",
        "train/inv_tau",
    }
    evaluated = [line for line in metrics(workdir) if "train/loss" not in line]
    assert [line["step"] for line in evaluated] == [12, _STEPS]
    assert "val/shape-zeroshot-val-top1" in evaluated[-1]


def test_a_run_tells_its_results_to_people_and_to_clip_benchmark(finished):
    workdir, output = finished
    rows = re.findall(r"^(shape|colour|texture|held_out) +24 .*$", output, re.M)
    assert sorted(rows) == ["colour", "held_out", "shape", "texture"]
    assert re.search(r"step 2/24  loss -?\d.*images/s.*waiting.*left", output)
    files = sorted((workdir / "eval" / str(_STEPS)).glob("benchmark_*.json"))
    assert len(files) == 4
    result = json.loads(files[0].read_text())
    assert result["task"] == "zeroshot_classification" and result["language"] == "en"
    assert result["metrics"].keys() >= {"acc1", "mean_per_class_recall"}
    assert {"dataset", "model", "pretrained"} <= result.keys()


def test_the_same_command_again_evaluates_and_trains_nothing(finished, data):
    workdir, _ = finished
    before = (workdir / "checkpoints" / str(_STEPS)).stat().st_mtime_ns
    code, output = run_forked(*arguments(data, workdir))
    assert code == 0 and "held_out" in output
    assert (workdir / "checkpoints" / str(_STEPS)).stat().st_mtime_ns == before


def test_interrupted_runs_end_bit_identical(finished, data, tmp_path):
    workdir, chance = tmp_path / "interrupted", random.Random(0)
    interruptions = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
    saved = None
    for step, number in zip((7, 11, 16), interruptions, strict=True):
        process = Forked(arguments(data, workdir))
        wait_for_step(workdir, step, process)
        time.sleep(chance.uniform(0, 0.3) if number == signal.SIGKILL else 0)
        process.send_signal(number)
        output, _ = process.communicate(timeout=300)
        # It was stopped while it trained, neither before nor after.
        assert "images/s" in output
        if saved is not None:
            assert f"going on after step {saved}" in output
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
            saved = None
        else:
            assert process.returncode == 0, output
            [saved] = re.findall(r"stopped; step (\d+) is saved", output)
            assert step <= int(saved) < _STEPS
            assert (workdir / "checkpoints" / saved).is_dir()
    code, output = run_forked(*arguments(data, workdir))
    assert code == 0 and "going on after step" in output
    assert_bit_identical(final_state(data, workdir), final_state(data, finished[0]))
    losses = [
        [
            (line["step"], line["train/loss"])
            for line in metrics(w)
            if "train/loss" in line
        ]
        for w in (workdir, finished[0])
    ]
    assert losses[0] == losses[1]  # none twice, none missing


def test_other_objectives_and_encoders_by_flag(data, tmp_path):
    code, output = run_forked(
        *arguments(
            data,
            tmp_path / "run",
            **{
                "objective.name": "siglip",
                "model.name": "ViT-tiny",
                "total_steps": 2,
                "optim.warmup_steps": 1,
                "optim.ema_decay": 0.9,
                "data.num_workers": 1,
                "data.resize": "device",
            },
        )
    )
    assert code == 0 and "ViT-tiny" in output and "objective siglip" in output


def one_line(output):
    [line] = [line for line in output.splitlines() if line.startswith("cloob_jax: ")]
    assert "Traceback" not in output
    return line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config=configs/shapes_tinny.py"], "did you mean configs/shapes_tiny.py"),
        ([], "--config is missing"),
        (
            ["--config=configs/shapes_tiny.py", "--config.optim.lerning_rate=1"],
            "lerning_rate.*learning_rate",
        ),
        (
            ["--config=configs/shapes_tiny.py", "--config.batch_size=many"],
            "batch_size.*many",
        ),
        (
            ["--config=configs/shapes_tiny.py", "--config.learning_rate=1"],
            r"config\.learning_rate: no such field.*mean config\.optim\.learning_rate",
        ),
        (["--config=configs/shapes_tiny.py", "--wrkdir=x"], "wrkdir.*workdir"),
        (["--config=configs/shapes_tiny.py", "extra"], "extra: unexpected"),
        (
            ["--config=configs/yfcc_rn50.py", "--workdir=/tmp/none"],
            "yfcc15m.*does not exist.*point --config.data.train to",
        ),
    ],
)
def test_mistakes_in_flags_are_one_line(flags, message):
    code, output = run_forked(*flags)
    assert code == 2, output
    assert re.search(message, one_line(output)), output


def test_a_full_disk_under_the_log_leaves_the_status():
    command = [sys.executable, "-m", "cloob_jax.main", "--config=none.py"]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(command, cwd=_ROOT, stdout=full, stderr=full)
    assert ended.returncode == 2


def test_a_changed_config_is_refused_by_its_field(finished, data):
    workdir, _ = finished
    changed = arguments(data, workdir, **{"optim.learning_rate": 0.5})
    code, output = run_forked(*changed)
    assert code == 2
    assert re.search(r"config\.optim\.learning_rate=0\.\d+, now it is 0\.5", output)
    assert (workdir / "checkpoints" / str(_STEPS)).is_dir()


def test_a_full_disk_is_one_line_and_leaves_what_was_saved(finished, data, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    shutil.rmtree(workdir / "checkpoints" / str(_STEPS))
    process = Forked(arguments(data, workdir))
    process.allow_small_files_only(500_000)  # the parameters take more
    code, output = finish(process)
    assert code == 2, output
    assert re.search("Is the disk full.*Complete steps: 15, 20", one_line(output))
    code, output = run_forked(*arguments(data, workdir))
    assert code == 0 and "going on after step 20" in output
    assert_bit_identical(final_state(data, workdir), final_state(data, finished[0]))


def test_help_is_short_and_exits_cleanly():
    code, output = run("--help")
    assert code in (0, 1) and "--config=configs/shapes_tiny.py" in output
