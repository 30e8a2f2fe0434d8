"""The command that evaluates, as a user runs it, and every mistake."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import random_run
from PIL import Image
from test_captioned import write_tars
from test_labelled import write_folder, write_set
from test_pipeline import jpeg

import cloob_jax
from cloob_jax import evaluate

_ROOT = Path(__file__).parent.parent
_LABELS = [2, 0, 1, 1, 0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data sets in three forms, one of them damaged."""
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "wds_vtab-zoo", _LABELS)
    write_tars(folder / "walks", [["a cat", "the cat"], ["a dog"], ["an emu", "emus"]])
    damaged = {"test/cat": 2, "test/dog": 2}
    write_folder(folder / "damaged", damaged)
    (folder / "damaged/test/dog/1.JPEG").write_bytes(jpeg(0)[:100])
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    root = str(data / "wds_vtab-zoo")
    evals = {
        "zoo": {"kind": "zero_shot", "root": root, "split": "test"},
        "imagenet": {"kind": "zero_shot", "root": "", "split": "test"},
    }
    random_run.write(folder, evals=evals)
    return folder


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        evaluate.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return stop.value.code, output.out, output.err


def test_all_that_can_be_measured_is_and_the_rest_is_named(run, data, tmp_path):
    tasks = "zoo,damaged,walks_retrieval,walks_spectrum"
    flags = [f"--weights={run}", f"--data_dir={data}", f"--tasks={tasks}"]
    done = subprocess.run(
        [sys.executable, "-m", "cloob_jax.evaluate", *flags, f"--output={tmp_path}"],
        cwd=_ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "zoo: [####################] 5/5" in done.stderr
    *_, last = done.stderr.splitlines()
    assert (
        last.startswith("cloob_jax: task damaged: damaged: ") and "dog/1.JPEG" in last
    )
    found = {}
    for path in tmp_path.glob("*.json"):
        content = json.loads(path.read_text())
        found[content["dataset"], content["task"]] = content["metrics"]
        assert path.name == (
            f"benchmark_{content['dataset']}_mine-0_ViT-tiny_en_{content['task']}.json"
        )
        assert content["model"] == "ViT-tiny" and content["pretrained"] == "mine-0"
    assert found.keys() == {
        ("zoo", "zeroshot_classification"),
        ("walks", "zeroshot_retrieval"),
        ("walks", "spectrum"),
    }
    for name in ("zero-shot", "retrieval", "spectrum"):
        assert name in done.stdout

    # The same by the door for notebooks, picture by picture.
    model = cloob_jax.load(run)
    pictures = [Image.open(io.BytesIO(jpeg(number))) for number in range(5)]
    odds = model.classify(pictures, ["cat", "dog", "emu"], ["a {c}.", "the {c}."])
    right = np.mean(odds.argmax(axis=1) == _LABELS)
    assert found["zoo", "zeroshot_classification"]["acc1"] == pytest.approx(right)


def test_without_tasks_those_of_the_run(run, capsys):
    code, output, _ = call(capsys, f"--workdir={run / 'checkpoints' / '0'}")
    assert code == 0 and "zoo" in output
    name = "benchmark_zoo_mine-0_ViT-tiny_en_zeroshot_classification.json"
    assert (run / "eval/0" / name).is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tasks=zoo"], "one of the arguments --workdir --weights is required"),
        (["--weights=nowhere"], "nowhere: no run directory"),
        (
            ["--weights=RUN", "--tasks=zo_linearprobe"],
            r"zo_linearprobe \(zero_shot of zo_linearprobe\): this run's.*--data_dir",
        ),
        (["--weights=RUN", "--tasks=_retrieval"], "a task has no name"),
        (
            ["--weights=RUN", "--tasks=cifar10,zoo", "--data_dir=DATA"],
            r"task cifar10 .*: no data set cifar10 in .*looked there and one below",
        ),
        (["--weights=RUN", "--tasks=zoo", "--data_dir=none"], "--data_dir=none: no su"),
        (
            ["--weights=RUN", "--tasks=zoo", "--data_dir=DATA", "--split=train"],
            r"task zoo: no data set in .*wds_vtab-zoo; looked for train/\*\.tar.*TFDS",
        ),
        (
            ["--weights=RUN", "--tasks=walks", "--data_dir=DATA"],
            r"task walks: .*0\.tar.*no cls member",
        ),
        (
            ["--weights=RUN", "--tasks=zoo_retrieval", "--data_dir=DATA"],
            r"task zoo_retrieval: .*0\.tar.*no txt member",
        ),
        (
            ["--weights=RUN", "--tasks=x_retrieval", "--data_dir=DATA", "--captions=y"],
            "task x_retrieval.captions=y cannot be read",
        ),
        # Before anything is computed, not after.
        (["--weights=RUN", "--output=/proc/none"], r"^cloob_jax: /proc/none: No such"),
        (["--weights=RUN", "--dtype=int8"], "argument --dtype: invalid choice: 'int8'"),
        (["--weights=RUN", "--batch_size=0"], "batch_size=0: expected at least 1"),
    ],
)
def test_mistakes_are_one_line(run, data, capsys, flags, message):
    places = {"RUN": str(run), "DATA": str(data)}
    for name, path in places.items():
        flags = [flag.replace(f"={name}", f"={path}") for flag in flags]
    code, output, error = call(capsys, *flags)
    assert code == 2 and output == ""
    [line] = error.splitlines()
    assert re.search(message, line), line
