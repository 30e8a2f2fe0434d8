"""Run directories, whole and damaged."""

import json

import numpy as np
import pytest
import run_folder

from cloob_jax.errors import UserError
from cloob_jax.reporting import reading


def test_all_of_it_is_read(tmp_path):
    [run] = reading.read_all([run_folder.write(tmp_path / "mine")])
    assert run.name == "mine" and run.notes == []
    assert run.config["optim.learning_rate"] == 1e-3
    assert len(run.series["train/loss"].steps) == 300
    assert [r.step for r in run.results] == [100, 300, 300]
    step, values = run.spectra["captions", "image"]
    assert step == 300 and np.array_equal(values, 0.5 ** np.arange(8))
    assert reading.picture_size(run.picture) == (20, 10)
    assert [session.ended for session in run.sessions] == [None, "finished"]
    assert run.bad_steps[0]["step"] == 12
    assert run.log == ["the first line", "the last line"]


def test_damage_is_noted_and_stops_nothing(tmp_path):
    [run] = reading.read_all([run_folder.write_hostile(tmp_path)])
    assert sorted(run.notes) == [
        "eval/300/a.json: not JSON",
        "eval/300/b.json: no result of an evaluation",
        "eval/300/c.json: no result of an evaluation",
        "eval/300/captions_spectrum.npz: damaged",
        "metrics.jsonl: lines that cannot be read: 6",
        "samples.png: not a PNG picture",
    ]
    assert np.nanmax(run.series["spike"].values) == 1e9 - 1
    [result] = [r for r in run.results if r.dataset == run_folder.HOSTILE]
    assert set(result.figures) == {
        "acc1",
        "acc1_ci95_low",
        "acc1_ci95_high",
        result.task,
    }


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json"])
def test_a_run_that_has_just_started(tmp_path, name):
    (tmp_path / name).touch()
    [run] = reading.read_all([tmp_path])
    missing = {"metrics.jsonl": "config.json", "config.json": "metrics.jsonl"}[name]
    assert f"{missing}: No such file or directory" in run.notes
    assert not (run.series or run.config or run.results or run.sessions or run.log)


_LATE = json.dumps([run_folder.session(1, 0, 9, None) | {"began": 1e300}])


@pytest.mark.parametrize(
    "damage", ["{}", "[1]", '[{"number": 1}]', _LATE, "[[[", "null"]
)
def test_damaged_sessions_are_left_out(tmp_path, damage):
    run_folder.write(tmp_path / "run")
    (tmp_path / "run/sessions.json").write_text(damage)
    [run] = reading.read_all([tmp_path / "run"])
    assert run.sessions == [] and run.notes == ["sessions.json: damaged"]


def test_later_spectra_win_and_damaged_ones_do_not(tmp_path):
    path = run_folder.write(tmp_path / "run")
    run_folder.evaluate(path, 100, "captions", "spectrum", num_pairs=1.0)
    np.savez(path / "eval/100/captions_spectrum.npz", image_spectrum=np.ones(3))
    [run] = reading.read_all([path])
    assert run.spectra["captions", "image"][0] == 300
    (path / "eval/300/captions_spectrum.npz").write_bytes(b"")
    [run] = reading.read_all([path])
    assert run.spectra["captions", "image"][0] == 100


def test_names_are_as_long_as_they_have_to_be(tmp_path):
    paths = [
        run_folder.write(tmp_path / name) for name in ("a/run", "b/run", "c/other")
    ]
    twice = paths[0] / ".." / "run"
    runs = reading.read_all([*paths, twice])
    assert [run.name for run in runs] == ["a/run", "b/run", "c/other"]


def test_only_the_end_of_a_long_log(tmp_path):
    path = run_folder.write(tmp_path / "run")
    (path / "log.txt").write_text("".join(f"line {n}\n" for n in range(20_000)))
    [run] = reading.read_all([path])
    assert run.log[-1] == "line 19999" and len(run.log) == 40


@pytest.mark.parametrize("kind", ["nothing", "a file", "empty", "runs inside"])
def test_what_is_no_run_directory_is_refused(tmp_path, kind):
    path = tmp_path / "it"
    if kind == "a file":
        path.touch()
    if kind == "empty":
        path.mkdir()
    if kind == "runs inside":
        run_folder.write(path / "one")
    expected = {
        "nothing": "it: no such folder",
        "a file": "it: not a folder",
        "empty": "neither metrics.jsonl nor config.json; give a --workdir",
        "runs inside": f"give the runs in it, such as {path / 'one'}",
    }
    with pytest.raises(UserError, match=expected[kind]):
        reading.read_all([path])
