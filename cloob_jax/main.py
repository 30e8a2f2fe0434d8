"""Pre-trains a contrastive image-text model and evaluates it.

    python -m cloob_jax.main --config=configs/shapes_tiny.py [--workdir=DIR]
                             [--config.batch_size=4096 ...]

Goes on by itself from what is in the run directory (default: runs/NAME_OF_THE_CONFIG).
Several processes train together where JAX knows the cluster (Cloud TPU, GKE, SLURM,
Open MPI), or with --coordinator_address, --num_processes and --process_id.
"""

import contextlib
import os
import sys
import threading
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from cloob_jax import bucket, config_flag, environment
from cloob_jax.command_line import clear_errors, fail

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file, such as configs/shapes_tiny.py."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The run directory, gs:// too; default: runs/NAME_OF_THE_CONFIG.",
)
_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where all processes meet."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes train together."
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Which of the processes this is, from 0."
)
_JOIN_SECONDS = flags.DEFINE_integer(
    "join_seconds", 120, "How long the processes wait for each other.", 0
)
_PRINT_SHARDING = flags.DEFINE_bool(
    "print_sharding", False, "Print what lies on which devices, and end."
)
_METRICS_PORT = flags.DEFINE_string(
    "metrics_port",
    None,
    "Serves the last metrics to Prometheus: PORT, on loopback, or HOST:PORT.",
)
_WANDB = flags.DEFINE_string(
    "wandb",
    None,
    "PROJECT or ENTITY/PROJECT of Weights & Biases (WANDB_MODE=offline works).",
)
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps",
    None,
    "FIRST:END: steps to trace, into the run directory; SIGUSR1: the next five.",
)
_REPLAY = flags.DEFINE_string(
    "replay", None, "An autopsy/STEP of a run: do this step once more, and end."
)


def main(arguments: list[str]) -> None:
    """Runs what the flags say; see the top of this file."""
    if len(arguments) > 1:
        fail(f"{arguments[1]}: unexpected; flags start with --, as in --config=FILE")
    # What the libraries tell of their inner workings would bury the progress line, and
    # their tracebacks the one line that says it: what fails is raised as well.
    logging.set_verbosity(logging.FATAL)
    workdir = config_flag.workdir(sys.argv)
    assert workdir is not None
    stays = f"what was saved in {bucket.url_of(workdir) or workdir} before stays"
    with clear_errors(stays):
        # After the flags, so that --help and a wrong flag answer at once.
        from cloob_jax import distributed

        timeout = float(_JOIN_SECONDS.value)
        place = distributed.find_place(
            _ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value, timeout
        )
        with distributed.joined(place, timeout, stays) as group:
            from cloob_jax import autopsy, observers, program, sharding, train

            jobs = {"print_sharding": _PRINT_SHARDING.value, "replay": _REPLAY.value}
            group.agree({f"--{name}": value for name, value in jobs.items()})
            if _REPLAY.value:
                text = autopsy.replay(_CONFIG.value, Path(_REPLAY.value), group)
                if group.is_leader:
                    print(text)
                return
            if _PRINT_SHARDING.value:
                mesh = sharding.make_mesh(**_CONFIG.value.mesh)
                parts = program.build(_CONFIG.value, mesh)
                if group.is_leader:
                    print(sharding.table(parts.abstract_state))
                return
            wishes = observers.Wishes(
                _METRICS_PORT.value, _WANDB.value, _PROFILE_STEPS.value
            )
            train.train_and_evaluate(_CONFIG.value, workdir, group, wishes)


def run() -> None:
    """The command."""
    environment.prepare()
    try:
        app.run(main, flags_parser=config_flag.parse)
    except SystemExit as end:
        names = {thread.name for thread in threading.enumerate()}
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        # Python would wait for threads: of `compilation`, with which it aborts itself,
        # and of a save that failed, which may wait for one another for ever.
        if "compiling" in names or code:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.flush()
            os._exit(code)
        raise


if __name__ == "__main__":
    run()
