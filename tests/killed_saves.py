"""Processes that save without end, and are killed; each first reads what is there.

    python tests/killed_saves.py FOLDER --kills=300

A process prints a line for each checkpoint that it has read and found whole, and exits
with 1 where one is not what was saved.
"""

import argparse
import itertools
import os
import random
import signal
import time
from pathlib import Path

import jax
import numpy as np
import optax

from cloob_jax.checkpoint import Checkpoints
from cloob_jax.state import TrainState

_LEAVES, _SIZE = 12, 60_000  # 240 kB each, three times as many with moments


def state_of(step):
    """A state that is known by its step."""
    rng = np.random.default_rng(step)
    params = {
        f"p{i}": rng.normal(size=_SIZE).astype(np.float32) for i in range(_LEAVES)
    }
    tree = {"model": params, "objective": {}}
    moments = optax.adam(1e-3).init(tree)
    moments = jax.tree.map(lambda leaf: leaf + np.asarray(step, leaf.dtype), moments)
    count = np.asarray(step, np.int32)
    return jax.tree.map(jax.numpy.asarray, TrainState(count, tree, {}, moments, None))


def read_and_save(folder, told):
    """One process's life; `told` is a file descriptor that hears of each step."""
    with Checkpoints(folder, keep=2) as checkpoints:
        steps = checkpoints.steps()
        for step in steps:
            data, config = checkpoints.describe(step)
            assert (data, config) == ({"examples_seen": step}, {"seed": step})
            abstract = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=leaf.sharding
                ),
                state_of(step),
            )
            found = checkpoints.restore(step, abstract)
            jax.tree.map(np.testing.assert_array_equal, found, state_of(step))
        os.write(told, f"{steps[-1] if steps else 0}\n".encode())
        for step in itertools.count(steps[-1] + 1 if steps else 1):
            checkpoints.save(state_of(step), {"examples_seen": step}, {"seed": step})
            os.write(told, f"{step}\n".encode())


def life(folder, seconds, rng):
    """Starts a process, kills it a while after it began to save.

    Returns:
      The step that it found, and the last whose saving it began.
    """
    hear, told = os.pipe()
    process = os.fork()
    if not process:
        os.close(hear)
        status = 1
        try:
            read_and_save(folder, told)
        finally:
            os._exit(status)
    os.close(told)
    with os.fdopen(hear) as lines:
        # The first save takes longer, as it is compiled.
        found, first = lines.readline(), lines.readline()
        if not first:
            raise SystemExit("a process ended by itself: a checkpoint was not whole")
        time.sleep(rng.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status), "it ended by itself"
        *_, last = [first, *lines]
    return int(found), int(last)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, reached, torn = random.Random(given.seed), 0, 0
    for number in range(given.kills):
        left = list(given.folder.glob("*tmp*")) if given.folder.exists() else []
        torn += bool(left)
        found, last = life(given.folder, given.seconds, rng)
        # Nothing that was complete is ever lost, whatever was being written.
        assert found >= reached, f"step {reached} is lost, {found} is the last"
        reached = max(found, last - 1)  # a save begins when the one before is complete
        print(f"kill {number + 1}: found step {found}, saving {last}", flush=True)
    print(
        f"{given.kills} kills, {torn} in the middle of a save; step {reached} reached"
    )


if __name__ == "__main__":
    main()
