"""How long a save keeps the loop waiting, for a model with its optimiser state.

    python benchmarks/save.py [--model=ViT-B-16] [--saves=5] [--folder=DIR]

The loop waits while the state is copied and its digests are computed; writing goes on
beside the next steps. The share of the time between saves follows from that.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax
import record
from ml_collections import ConfigDict

from cloob_jax import digests, program, sharding
from cloob_jax.checkpoint import Checkpoints


def state_of(model):
    """The first state of a run, as `program` makes it."""
    from configs import common

    config: ConfigDict = common.get_config()
    config.model.name, config.optim.learning_rate = model, 1e-3
    config.batch_size, config.total_steps = 8, 10
    return program.build(config, sharding.make_mesh()).init()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--folder", help="where to write; default: a temporary folder")
    given = parser.parse_args()
    state = jax.block_until_ready(state_of(given.model))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    waits, digesting, writing = [], [], []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        with Checkpoints(Path(folder), keep=1) as checkpoints:
            for number in range(given.saves + 1):
                began = time.monotonic()
                digests.of_tree({"params": state.params, "train": state.opt_state})
                middle = time.monotonic()
                step = state.replace(step=state.step + number)
                checkpoints.save(step, {"examples_seen": 0}, {})
                saved = time.monotonic()
                checkpoints.wait()
                if number:  # the first one is compiled
                    digesting.append(middle - began)
                    waits.append(saved - middle)
                    writing.append(time.monotonic() - saved)
    row = {
        "model": given.model,
        "state_gb": round(size / 1e9, 2),
        "wait_seconds": round(statistics.median(waits), 2),
        "wait_range": [round(min(waits), 2), round(max(waits), 2)],
        "of_which_digests_seconds": round(statistics.median(digesting), 2),
        "then_writing_seconds": round(statistics.median(writing), 2),
    }
    print(row)
    least = 50 * row["wait_seconds"]
    print(f"2 % of the time between saves: at least {least:.0f} s apart")
    record.append("save", vars(given), [row])


if __name__ == "__main__":
    main()
