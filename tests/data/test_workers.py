"""Workers and trainers that die, stop or hang, in processes as in a run."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_pipeline import jpeg

_ROOT = Path(__file__).parents[2]
_TRAINER = """
import os, sys, time
from multiprocessing import shared_memory
from pathlib import Path

folder, num_workers = Path(sys.argv[1]), int(sys.argv[2])
# To find what is left behind: a name of at most 14 characters, four of them random.
trainer = os.getpid() if __name__ == "__main__" else os.getppid()
shared_memory._SHM_NAME_PREFIX = f"/{trainer}_"


class Pairs:
    faults, fingerprint = [], ""

    def __len__(self):
        return 40

    def __getitem__(self, record):
        if (folder / "exit").exists():
            os._exit(3)
        while (folder / "hang").exists():
            time.sleep(60)
        return (folder / "0.jpg").read_bytes(), b"a caption"


def main():
    from cloob_jax.data import pipeline
    from cloob_jax.process_group import ProcessGroup
    from cloob_jax.tokenizer import Tokenizer

    batches = pipeline.train_batches(
        pipeline.LoadPair(Pairs(), Tokenizer(16), 16),
        batch_size=8,
        examples_seen=0,
        seed=0,
        num_workers=num_workers,
        stall_seconds=5,
        end=ProcessGroup(stays="what was saved stays").end,
    )
    try:
        for number, _ in enumerate(batches):
            if number == 2 * num_workers:
                (folder / "runs").touch()
            time.sleep(0.05)
    finally:
        batches.close()


if __name__ == "__main__":
    from cloob_jax.command_line import clear_errors

    with clear_errors("what was saved stays"):
        main()
"""


@pytest.fixture
def start(tmp_path):
    """Starts a trainer, and returns its process and its folder."""
    trainers = []

    def run(name, num_workers):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "0.jpg").write_bytes(jpeg(0))
        script = folder / "trainer.py"
        script.write_text(_TRAINER)
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(num_workers)],
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        trainers.append(process)
        return process, folder

    yield run
    for trainer in trainers:
        trainer.kill()
        trainer.wait()
        trainer.stderr.close()


def workers_of(trainer, folder):
    """The process numbers of its workers, in their order, once there are batches."""
    wait_for(lambda: (folder / "runs").exists() or trainer.poll() is not None)
    assert trainer.poll() is None, trainer.communicate()[1]
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_text()
        except OSError:  # ended meanwhile
            continue
        if parent == trainer.pid and "spawn_main" in command:
            found[int(path.parent.name)] = command
    return sorted(found)


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(process):
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def segments(trainer):
    return list(Path("/dev/shm").glob(f"{trainer.pid}_*"))


def wait_until_gone(workers, trainer):
    wait_for(lambda: not any(map(is_alive, workers)) and not segments(trainer), 30)


def test_a_trainer_that_is_killed_leaves_nothing(start):
    trainers = [start(name, 1) for name in ("killed", "terminated")]
    numbers = (signal.SIGKILL, signal.SIGTERM)
    for (trainer, folder), number in zip(trainers, numbers, strict=True):
        workers = workers_of(trainer, folder)
        assert len(workers) == 1 and segments(trainer)
        trainer.send_signal(number)
        assert trainer.wait() == -number
        wait_until_gone(workers, trainer)


def test_a_worker_that_is_lost_ends_the_run_by_its_name(start):
    deeds = {
        "killed": (2, "was killed by SIGKILL, as happens where memory runs out"),
        "exited": (1, "ended with exit status 3"),
        "stopped": (1, "has brought no example for 5 seconds"),
        "alone": (0, "reading config.data.train has brought no example for 5 seconds"),
    }
    trainers = {name: start(name, count) for name, (count, _) in deeds.items()}
    workers = {}
    for name, (trainer, folder) in trainers.items():
        workers[name] = workers_of(trainer, folder)
        assert len(workers[name]) == deeds[name][0]
        if name == "killed":
            os.kill(workers[name][-1], signal.SIGKILL)
        elif name == "stopped":
            os.kill(workers[name][-1], signal.SIGSTOP)
        else:
            (folder / ("exit" if name == "exited" else "hang")).touch()
    for name, (trainer, _) in trainers.items():
        _, errors = trainer.communicate(timeout=60)
        assert trainer.returncode == 1
        count, what = deeds[name]
        who = ""
        if count:
            who = rf"data worker \d of {count} \(process {workers[name][-1]}\) "
        what = re.escape(what)
        line = f"cloob_jax: {who}{what}.*; what was saved stays\n"
        assert re.fullmatch(line, errors), errors
        wait_until_gone(workers[name], trainer)
