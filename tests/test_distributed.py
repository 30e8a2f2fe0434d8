"""Several processes are one run: real ones, killed for real, as a user starts them.

The fixtures are the chapters of one run that has bad luck: two processes lose one, go
on and lose the one that leads, go on and are asked to stop; one finishes it on another
mesh, and four evaluate it on a third. It has to end like a run of a single process that
nobody disturbed.
"""

import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from forked import Forked
from test_main import metrics, wait_for_step
from test_tokenizer_file import write

from cloob_jax import distributed, program, sharding
from cloob_jax.checkpoint import Checkpoints
from cloob_jax.data import shapes
from cloob_jax.data.shapes import captions
from cloob_jax.errors import UserError

_ROOT = Path(__file__).parent.parent
_STEPS = 20
_SETTINGS = {
    "batch_size": 16,
    "model.name": "ViT-tiny",
    "model.context_length": 16,
    "data.image_size": 32,
    "total_steps": _STEPS,
    "optim.learning_rate": 1e-4,
    "optim.warmup_steps": 4,
    "optim.eps": 1e-4,  # else Adam makes steps of what is rounded away
}

_LEFT_OUT = ("colour", "texture", "held_out", "captions", "spectrum")  # of the evals


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Drawn scenes, of which five pictures are broken."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    shapes.generate(folder, num_train=200, num_test=24, image_size=32, num_processes=1)
    [tar] = (folder / "train").glob("*.tar")
    content = bytearray(tar.read_bytes())
    starts = [found.start() for found in re.finditer(rb"\xff\xd8\xff", content)]
    assert len(starts) == 200
    for start in starts[::40]:
        content[start : start + 3] = b"bad"
    tar.write_bytes(content)
    # With CLIP's, the table of tokens would be most of what is computed and saved.
    words = (*captions.SHAPE_WORDS, *captions.COLOUR_WORDS)
    write(folder / "words.json", words=words)
    return folder


def arguments(data, workdir, **overrides):
    settings = _SETTINGS | {
        "data.tokenizer": data / "words.json",
        "data.shapes.num_train": 200,
        "data.shapes.num_test": 24,
        "data.max_bad_fraction": 0.1,
        "log_steps": 1,
        "checkpoint_steps": 5,
        **{f"evals.{name}.root": "" for name in _LEFT_OUT},
    }
    flags = [f"--config.{k}={v}" for k, v in (settings | overrides).items()]
    return [f"--config=configs/shapes_tiny.py:{data}", f"--workdir={workdir}", *flags]


def free_port():
    with socket.create_server(("", 0)) as probe:
        return probe.getsockname()[1]


def start_all(size, flags, devices, own=lambda index: []):
    address = f"127.0.0.1:{free_port()}"
    common = [*flags, f"--coordinator_address={address}", f"--num_processes={size}"]
    return [
        Forked([*common, f"--process_id={index}", *own(index)], devices)
        for index in range(size)
    ]


def finish(process, timeout=400):
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def last_words(errors):
    assert "Traceback" not in errors
    return [line for line in errors.splitlines() if line.startswith("cloob_jax: ")]


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    code, errors = finish(Forked(arguments(data, workdir), 4))
    assert code == 0, errors
    return workdir


@pytest.fixture(scope="module")
def lost_worker(data, tmp_path_factory):
    """Kills one of two processes after a step; what the other did, and how fast."""
    workdir = tmp_path_factory.mktemp("runs") / "disturbed"
    leader, worker = start_all(2, arguments(data, workdir), 2)
    wait_for_step(workdir, 6, leader)
    worker.kill()
    began = time.monotonic()
    code, errors = finish(leader)
    seconds = time.monotonic() - began
    finish(worker)
    return workdir, (code, errors, seconds)


@pytest.fixture(scope="module")
def supervised(data, lost_worker):
    """Goes on and loses its leader; goes on, and one process is asked to stop.

    The supervisor would start it once more, and is asked to stop before it does.
    """
    workdir, _ = lost_worker
    command = [sys.executable, "-m", "cloob_jax.supervise", "--num_processes=2", "--"]
    said = []
    with subprocess.Popen(
        [*command, *arguments(data, workdir)],
        cwd=_ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
        stderr=subprocess.PIPE,
        text=True,
    ) as supervisor:
        for line in supervisor.stderr:
            said.append(line)
            children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
            if "step 11/" in line and not any("was killed" in text for text in said):
                os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
            elif "step 13/" in line and any("was killed" in text for text in said):
                os.kill(int(children.read_text().split()[1]), signal.SIGTERM)
            elif "training was stopped" in line:
                supervisor.send_signal(signal.SIGTERM)
    return workdir, supervisor.returncode, said


@pytest.fixture(scope="module")
def finished(data, supervised):
    workdir, *_ = supervised
    flags = arguments(data, workdir, **{"mesh.fsdp": 2, "mesh.tensor": 2})
    code, errors = finish(Forked(flags, 4))
    assert code == 0 and "going on after step" in errors, errors
    return workdir


@pytest.fixture(scope="module")
def evaluated(data, finished):
    [result] = (finished / "eval" / str(_STEPS)).glob("*.json")
    by_one = result.read_text()
    result.unlink()
    flags = arguments(data, finished, **{"mesh.data": 2, "mesh.fsdp": 2})
    ends = [finish(process) for process in start_all(4, flags, 1)]
    return by_one, result.read_text(), ends


def test_when_a_process_dies_the_other_ends_with_a_line_that_names_it(lost_worker):
    workdir, (code, errors, seconds) = lost_worker
    assert code == 1 and seconds < 10, errors
    [line] = last_words(errors)
    assert f"process 1 ({socket.gethostname()}) is gone" in line
    assert f"what was saved in {workdir} before stays; start all processes" in line


def test_a_supervisor_starts_all_again_when_the_leader_dies(supervised):
    _, _, said = supervised
    text = "".join(said)
    [gone] = re.findall(r"^\[1\] cloob_jax: process 0 .*", text, re.M)
    assert "is gone; what was saved" in gone
    expected = "cloob_jax: process 0 was killed by SIGKILL; goes on from step 10 in 1 s"
    assert expected in text and "[0] going on after step 10\n" in text


def test_a_signal_to_one_process_stops_all_at_the_same_step(supervised):
    workdir, code, said = supervised
    text = "".join(said)
    [step] = re.findall(r"stopped; step (\d+) is saved", text)
    assert 13 <= int(step) < _STEPS
    assert (workdir / "checkpoints" / step / "params").is_dir()
    assert f"training was stopped before its end; goes on from step {step}" in text
    assert code == 0 and said[-1].startswith("cloob_jax: training was stopped")


def test_a_disturbed_run_of_many_processes_ends_like_one_of_a_single(
    data, undisturbed, finished
):
    one, other = (restore(data, workdir) for workdir in (undisturbed, finished))
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6)
    assert int(one.step) == _STEPS
    steps, losses = zip(*map(losses_of, (undisturbed, finished)), strict=True)
    assert steps[0] == steps[1] == list(range(1, _STEPS + 1))  # none twice or missing
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_four_processes_restore_and_evaluate_like_one(evaluated):
    by_one, by_four, ends = evaluated
    assert [code for code, _ in ends] == [0, 0, 0, 0], ends
    assert by_four == by_one and '"acc1"' in by_one
    first, *others = (errors for _, errors in ends)
    assert "4 cpu device(s) in 4 processes, mesh data 2 x fsdp 2" in first
    assert re.search("^shape +24 ", first, re.M)
    assert not any("shape" in errors for errors in others)  # only process 0 talks


def restore(data, workdir):
    """The final state, in this process, on yet another mesh."""
    config = importlib.import_module("configs.shapes_tiny").get_config()
    with config.unlocked():
        config.update_from_flattened_dict(_SETTINGS)
    config.data.tokenizer = str(data / "words.json")
    parts = program.build(config, sharding.make_mesh(1, 8, 1))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return jax.device_get(checkpoints.restore(_STEPS, parts.abstract_state))


def losses_of(workdir):
    lines = [line for line in metrics(workdir) if "train/loss" in line]
    steps = [line["step"] for line in lines]
    return steps, np.array([line["train/loss"] for line in lines])


def test_bad_records_are_listed_whichever_process_met_them(undisturbed, finished):
    one, other = (
        (workdir / "bad_records.jsonl").read_text()
        for workdir in (undisturbed, finished)
    )
    assert one == other and len(one.splitlines()) == 5
    last = metrics(finished)[-2]
    assert last["train/bad_records"] == last["train/bad_records/not_an_image"] == 5


def test_a_save_that_fails_in_one_process_ends_all(data, tmp_path):
    processes = start_all(2, arguments(data, tmp_path / "run"), 1)
    wait_for_step(tmp_path / "run", 2, processes[0])
    processes[1].allow_small_files_only(20_000)
    for number, process in enumerate(processes):
        code, errors = finish(process, timeout=60)  # Orbax waits for 1,200
        [said] = last_words(errors)
        assert code == 2 and "Is the disk full" in said, errors
        assert ("process 1 (" in said) == (number == 0)


def test_processes_that_disagree_on_the_config_are_told_the_field(data, tmp_path):
    flags = arguments(data, tmp_path / "run")
    processes = start_all(2, flags, 1, lambda i: [f"--config.optim.b1=0.{i + 8}"])
    for process in processes:
        code, errors = finish(process)
        [line] = last_words(errors)
        assert code == 2, errors
        assert "disagree on config.optim.b1: process 1" in line
        assert "has 0.9, process 0" in line and "has 0.8;" in line


def test_processes_that_are_to_do_different_things_do_not_wait(data, tmp_path):
    flags = arguments(data, tmp_path / "run")
    for process in start_all(2, flags, 1, lambda i: ["--print_sharding"] * i):
        code, errors = finish(process, timeout=60)
        [line] = last_words(errors)
        assert code == 2 and "disagree on --print_sharding: process 1" in line, errors


def test_processes_that_see_other_data_are_told_so(data, tmp_path):
    # One path, which means something else in each process, as on two machines.
    for index in range(2):
        shutil.copytree(data / "train", tmp_path / str(index) / "train")
    with (tmp_path / "1" / "train" / "00000.tar").open("ab") as tar:
        tar.write(bytes(10240))
    flags = arguments(data, tmp_path / "run", **{"data.train": "~/train"})
    address = ["--num_processes=2", f"--coordinator_address=127.0.0.1:{free_port()}"]
    processes = [
        Forked(
            [*flags, *address, f"--process_id={i}"], 1, {"HOME": str(tmp_path / str(i))}
        )
        for i in range(2)
    ]
    for process in processes:
        code, errors = finish(process)
        [line] = last_words(errors)
        assert code == 2, errors
        assert "disagree on what is in config.data.train: process 1" in line


def test_a_coordinator_that_never_answers(data, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--coordinator_address={address}", "--num_processes=2", "--process_id=1"]
    code, errors = finish(
        Forked([*arguments(data, tmp_path / "run"), *flags, "--join_seconds=1"])
    )
    [line] = last_words(errors)
    assert code == 1 and f"for process 0 at {address} (Connection refused)" in line


_SLURM = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_NODELIST": "node[07-08]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


def test_a_cluster_is_found_and_a_lone_process_left_alone(monkeypatch):
    def find(address=None, size=None, index=None):
        return distributed.find_place(address, size, index, 5.0)

    assert find() is None and find("here:1", 1, 0) is None
    assert find("[::1]:80", 2, 1) == distributed.Place(("::1", 80), 2, 1)
    for name, value in _SLURM.items():
        monkeypatch.setenv(name, value)
    place = find()
    assert place.address[0] == "node07" and place.local_device_ids == [0]
    assert (place.num_processes, place.process_id) == (2, 1)
    assert find("other:80").address == ("other", 80)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # the shell of salloc
    assert find() is None and find("other:80", 2, 1).process_id == 1
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert find() is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("here:80", None, 1), "go together"),
        ((None, None, 0), "go together"),
        (("here:80", 2, 2), "--process_id=2: expected 0 to 1"),
        (("here:80", 0, 0), "--num_processes=0"),
        (("here", 2, 0), "--coordinator_address=here: expected HOST:PORT"),
        (("here:http", 2, 0), "--coordinator_address=here:http: expected HOST:PORT"),
    ],
)
def test_places_that_cannot_be_meant_are_named(flags, message):
    with pytest.raises(UserError, match=re.escape(message)):
        distributed.find_place(*flags, 5.0)
