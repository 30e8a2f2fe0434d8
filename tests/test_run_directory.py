"""The run directory is held by one run, and what is none is refused."""

import subprocess
import sys

import pytest

from cloob_jax.errors import Outage, UserError
from cloob_jax.process_group import ProcessGroup
from cloob_jax.run_directory import held

_HOLD = """
import sys, pathlib
from cloob_jax import process_group, run_directory
with run_directory.held(pathlib.Path(sys.argv[1]), process_group.ProcessGroup()):
    print(1, flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert first.stdout.readline() == b"1\n"
    with pytest.raises(Outage, match="run: another run is training in it"):
        with held(tmp_path / "run", ProcessGroup()):
            pass
    first.kill()
    first.communicate()
    with held(tmp_path / "run", ProcessGroup()):
        pass


def test_a_file_and_other_urls_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="give a folder that can be written"):
            with held(workdir, ProcessGroup()):
                pass
    with pytest.raises(UserError, match="hf://bucket/run: expected a folder or gs://"):
        with held(type(tmp_path)("hf://bucket/run"), ProcessGroup()):
            pass


def test_a_folder_that_processes_do_not_share_is_refused(tmp_path, monkeypatch):
    class Second(ProcessGroup):
        """The second of two processes, whose leader writes elsewhere."""

        def __init__(self):
            self.index, self.size, self.is_leader = 1, 2, False

        def reduce(self, value, combine):
            return "leader's"

    monkeypatch.setattr("cloob_jax.run_directory._VISIBLE_SECONDS", 0.0)
    with pytest.raises(UserError, match="run: not the folder that process 0 writes"):
        with held(tmp_path / "run", Second()):
            pass
