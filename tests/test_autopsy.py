"""A step that is not finite is skipped, or ends the run with all that it takes."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from test_train import make_config

from cloob_jax import autopsy, program, sharding, step, train, writers
from cloob_jax.checkpoint import Checkpoints
from cloob_jax.errors import UserError
from cloob_jax.process_group import ProcessGroup

_PAIRS = 32
pytestmark = pytest.mark.usefixtures("two_devices")


@pytest.fixture
def white_is_poison(monkeypatch):
    """Pictures that are nothing but white have no finite embedding."""
    normalise = step.normalise

    def poisoned(images):
        least = images.min(axis=(1, 2, 3), keepdims=True).astype(np.float32)
        return normalise(images) / (least != 255)

    monkeypatch.setattr(step, "normalise", poisoned)


def draw(folder, white):
    """Pairs of which those with these numbers are white."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(_PAIRS):
        pixels = rng.integers(0, 250, (32, 32, 3), np.uint8)
        pixels[:] = 255 if number in white else pixels
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"w{number} w{number + 1}")


def config_of(folder, **overrides):
    settings = {"batch_size": 8, "total_steps": 8, "log_steps": 1, "evals": {}}
    settings |= {"data.train": str(folder / "pairs"), "optim.schedule": "constant"}
    return make_config(folder, **settings | overrides)


def last_state(config, workdir):
    parts = program.build(config, sharding.make_mesh())
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        step = checkpoints.latest_step()
        return step, jax.device_get(checkpoints.restore(step, parts.abstract_state))


def test_a_bad_step_changes_nothing_and_the_run_goes_on(tmp_path, white_is_poison):
    draw(tmp_path / "pairs", white=[5])
    config = config_of(tmp_path, checkpoint_steps=4)
    train.train_and_evaluate(config, tmp_path / "run")
    rows = writers.read_json_lines(tmp_path / "run" / "bad_steps.jsonl")
    assert len(rows) == 2  # once in each epoch of four steps
    for row in rows:
        assert row["reason"] == "not finite" and row["metrics"]["loss"] == "nan"
        assert len(row["records"]) == 8
        assert sum("05.png" in name for name in row["records"]) == 1
        assert row["metrics"].keys() >= {"grad_norm/visual", "grad_norm/text"}
    bad = [row["step"] for row in rows]
    lines = writers.read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in lines] == list(range(1, 9))
    assert [row["step"] for row in lines if "train/loss" not in row] == bad
    assert lines[-1]["train/skipped_steps"] == 2
    norms = {row["step"]: row["train/param_norm"] for row in lines}
    assert bad[0] > 1 and norms[bad[0]] == norms[bad[0] - 1] != norms[bad[0] + 1]
    # Stopped and gone on with in the middle, it is the same run.
    half = tmp_path / "half"
    shutil.copytree(tmp_path / "run", half)
    shutil.rmtree(half / "checkpoints" / "8")
    train.train_and_evaluate(config, half)
    assert (half / "bad_steps.jsonl").read_text().count("\n") == 2
    whole, again = last_state(config, tmp_path / "run"), last_state(config, half)
    assert whole[0] == again[0] == int(again[1].step) == 8
    jax.tree.map(np.testing.assert_array_equal, whole[1], again[1])
    ends = json.loads((half / "sessions.json").read_text())
    assert [row["ended"] for row in ends] == ["finished", "finished"]


def test_too_many_bad_steps_end_with_an_autopsy(tmp_path, white_is_poison):
    draw(tmp_path / "pairs", white=range(0, _PAIRS, 2))
    config, workdir = config_of(tmp_path, max_bad_steps=2), tmp_path / "run"
    with pytest.raises(UserError, match="3 steps in a row.*last checkpoint is none"):
        train.train_and_evaluate(config, workdir)
    [session] = json.loads((workdir / "sessions.json").read_text())
    assert session["ended"] == "failed" and "in a row" in session["message"]
    assert not list((workdir / "checkpoints").iterdir())
    [folder] = (workdir / "autopsy").iterdir()
    assert folder.name == "3" and f"--replay={folder}" in (
        (folder / "replay.sh").read_text()
    )
    # Nothing was learned, so that the state is that of the start.
    parts = program.build(config, sharding.make_mesh())
    _, state = last_state(config, folder)
    start = jax.device_get(parts.init())
    jax.tree.map(np.testing.assert_array_equal, state.params, start.params)
    told = autopsy.replay(config, folder, ProcessGroup())
    assert "step 3 again" in told and "loss nan (in the run nan)" in told
    names = json.loads((folder / "records.json").read_text())
    white = [name for name in names if int(name[-6:-4]) % 2 == 0]
    assert 0 < len(white) < 8
    expected = f"{len(white)} of 8 images have no embedding: {', '.join(white)}"
    assert expected in told and "0 of 8 texts" in told
    assert "visual/" in told and "entries not finite" in told
    monkey = config_of(tmp_path, batch_size=16)
    with pytest.raises(UserError, match="--replay=.*8 rows.*batch_size"):
        autopsy.replay(monkey, folder, ProcessGroup())
    with pytest.raises(UserError, match="--replay=.*expected a folder autopsy/STEP"):
        autopsy.replay(config, workdir, ProcessGroup())
