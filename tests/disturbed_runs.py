"""A run with bad luck, and one without: do they end the same, bit for bit?

    python tests/disturbed_runs.py FOLDER --num_processes=2 --faults=30

Processes of a supervised run are killed, stopped (SIGSTOP) and asked to end, and so is
the supervisor, at random moments, until there were enough faults; then it is left be.
Its last checkpoint has to have the digests of an undisturbed run's, and its metrics the
same losses. Takes a minute or two for each fault.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_FLAGS = {
    "data.shapes.num_train": 400,
    "data.shapes.num_test": 24,
    "data.image_size": 32,
    "batch_size": 16,
    "model.name": "ViT-tiny",
    "optim.warmup_steps": 4,
    "log_steps": 1,
    "checkpoint_steps": 10,
    "eval_steps": 1_000_000,
}


def start(folder, workdir, num_processes, steps):
    flags = [f"--config.{field}={value}" for field, value in _FLAGS.items()]
    command = [sys.executable, "-m", "cloob_jax.supervise", "--max_failures=1000"]
    command += [f"--num_processes={num_processes}", "--"]
    command += [f"--config=configs/shapes_tiny.py:{folder / 'data'}", *flags]
    command += [f"--config.total_steps={steps}", f"--workdir={workdir}"]
    with (folder / f"{workdir.name}.log").open("a") as log:
        return subprocess.Popen(
            command,
            cwd=_ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
            stderr=log,
        )


def children(process):
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()]


def disturb(process, rng):
    """Does one harm; what it was."""
    kind = rng.choice(["SIGKILL", "SIGKILL", "SIGSTOP", "SIGTERM", "supervisor"])
    if kind == "supervisor":
        process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        process.wait()
    elif victims := children(process):
        os.kill(rng.choice(victims), getattr(signal, kind))
    else:
        kind = "nobody there"
    return kind


def outcome(workdir, steps):
    """Digests of the last checkpoint, and the losses by step."""
    meta = workdir / "checkpoints" / str(steps) / "meta" / "metadata"
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    losses = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    return json.loads(meta.read_text())["digests"], losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--num_processes", type=int, default=2)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="between two, at most"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    folder = given.folder.resolve()

    whole = folder / "whole"
    if start(folder, whole, given.num_processes, given.steps).wait():
        raise SystemExit(f"the undisturbed run failed: {folder / 'whole.log'}")
    rng, done = random.Random(given.seed), collections.Counter()
    disturbed = folder / "disturbed"
    process = start(folder, disturbed, given.num_processes, given.steps)
    while True:
        if sum(done.values()) < given.faults:
            time.sleep(rng.uniform(0, given.seconds))
            if process.poll() is None:
                done[disturb(process, rng)] += 1
                print(dict(done), flush=True)
        else:
            process.wait()
        finished = (
            process.poll() == 0
            and (disturbed / "checkpoints").is_dir()
            and ((disturbed / "checkpoints" / str(given.steps)).is_dir())
        )
        if finished:
            break
        if process.poll() is not None:  # it was the supervisor's turn
            process = start(folder, disturbed, given.num_processes, given.steps)
    same = outcome(whole, given.steps) == outcome(disturbed, given.steps)
    sessions = len(json.loads((disturbed / "sessions.json").read_text()))
    verdict = "the same" if same else "NOT the same"
    print(f"{dict(done)}, {sessions} sessions: {verdict}")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
