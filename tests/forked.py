"""The commands in processes of their own, without the seconds that its imports take.

A server imports what the commands will and forks for each start. These are processes
like any others: they find their devices, meet, are sent signals and killed for real.
"""

import atexit
import gc
import importlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["cloob_jax.distributed", "cloob_jax.train"])
# Restoring and saving take many little programs, which are compiled once for all.
SETTINGS = {"jax_num_cpu_devices": 1, "jax_persistent_cache_min_compile_time_secs": 0.0}


class Forked:
    """Acts as a `subprocess.Popen` that writes all that it says to stdout."""

    def __init__(
        self, flags, num_devices=1, environment=None, command="main", folder=_ROOT
    ):
        """Starts `python -m cloob_jax.COMMAND` in a folder.

        With some more variables in its environment.
        """
        handle, self._path = tempfile.mkstemp()
        os.close(handle)
        # A daemon, lest pytest waits for one that a failing test leaves behind.
        self._process = _SERVER.Process(
            target=_run,
            args=(flags, num_devices, environment or {}, command, folder, self._path),
            daemon=True,
        )
        self._process.start()

    @property
    def returncode(self):
        """As of Popen: negative for a signal, None while it runs."""
        return self._process.exitcode

    def poll(self):
        """The same."""
        return self.returncode

    def send_signal(self, number):
        """Sends a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self._process.pid, number)

    def kill(self):
        """Kills it."""
        self.send_signal(signal.SIGKILL)

    def allow_small_files_only(self, num_bytes):
        """Writing past `num_bytes` into any file fails from now on: a full disk."""
        limits = (num_bytes, resource.RLIM_INFINITY)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, limits)

    def communicate(self, timeout=None):
        """What it said, and None, once it has ended; once only."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("cloob_jax.main", timeout)
        output = Path(self._path).read_text()
        os.unlink(self._path)
        return output, None


def _run(flags, num_devices, environment, command, folder, path):
    output = os.open(path, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    # A daemon may have no children, which draw and index.
    multiprocessing.current_process()._config["daemon"] = False
    os.environ.update(environment)
    gc.set_threshold(20_000, 10, 10)  # as in conftest
    import jax

    for name, value in (SETTINGS | {"jax_num_cpu_devices": num_devices}).items():
        jax.config.update(name, value)
    sys.argv = [str(_ROOT / "cloob_jax" / f"{command}.py"), *map(str, flags)]
    module = importlib.import_module(f"cloob_jax.{command}")
    try:
        getattr(module, "run", module.main)()
    finally:
        atexit._run_exitfuncs()  # left out where multiprocessing ends a process
