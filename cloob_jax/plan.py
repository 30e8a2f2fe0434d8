"""Plans a run on a TPU slice that is not here: does it fit, and how long does it take?

    python -m cloob_jax.plan --config=configs/yfcc_rn50.py --topology=v5e:16x16
                             [--config.batch_size=4096 ...] [--search_batch]
                             [--json=FILE]

Compiles the very train step of the config for that slice, on the CPU of any machine
with the extra `tpu`, and reads memory, FLOPs and traffic from what the compiler makes.
The times are lower bounds, from what the maker of the chip publishes.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from cloob_jax import config_flag, planning, validation, writers
from cloob_jax.command_line import clear_errors, fail
from cloob_jax.planning import text, topology

_CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file, such as configs/yfcc_rn50.py."
)
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "The slice: v4, v5e, v5p, v6e or tpu7x, a colon and its shape."
)
_SEARCH_BATCH = flags.DEFINE_bool(
    "search_batch", False, "Find the largest batch that fits, within an eighth."
)
_JSON = flags.DEFINE_string("json", None, "A file to write the plan to as well.")


def main(arguments: list[str]) -> None:
    """Runs what the flags say; see the top of this file."""
    if len(arguments) > 1:
        fail(f"{arguments[1]}: unexpected; flags start with --, as in --json=FILE")
    if _TOPOLOGY.value is None:
        fail("--topology is missing, for example --topology=v5e:16x16")
    _check_json(_JSON.value)
    # A plan that is killed takes its compiler along.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        clear_errors("what was compiled before is kept"),
        contextlib.closing(writers.Progress()) as progress,
    ):
        where = topology.parse(_TOPOLOGY.value)
        validation.check(_CONFIG.value)
        config = json.loads(json.dumps(_CONFIG.value.to_dict()))
        found = planning.make(config, where, progress, _SEARCH_BATCH.value)
        plan = {"config": _title(sys.argv)} | found
        progress.close()
        print(text.render(plan))
        if _JSON.value is not None:
            writers.write_json(Path(_JSON.value), plan)


def _check_json(path: str | None) -> None:
    """Refuses, before minutes of compiling, a file that cannot be written."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    is_writable = folder.is_dir() and os.access(folder, os.W_OK)
    if Path(path).is_dir() or not is_writable:
        fail(f"--json={path}: cannot be written; give a file in an existing folder")


def _title(arguments: list[str]) -> str:
    path, argument = config_flag.config_file(arguments)
    return f"{path}" if argument is None else f"{path}:{argument}"


def run() -> None:
    """The command."""
    app.run(main, flags_parser=config_flag.parse)


if __name__ == "__main__":
    run()
