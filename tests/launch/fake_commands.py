"""Stands in for commands that are not there: notes how they were called."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# What shells, ssh, SLURM, systemd, YAML and Kubernetes read each in a way of their own.
ODD_ARGUMENTS = [
    "--config=configs/a b.py:x",
    "--workdir=gs://my-bucket/runs/mine",
    "--a=it's",
    '--b="q" \\"r\\"',
    "--c=$(touch pwned) `touch pwned` ${NAME} $$ $(JOB_COMPLETION_INDEX)",
    "--d=*?[a] {1..3} ~",
    "--e=two  spaces\tand\na line",
    "--f=é∑ %h %%",
    "--g=#;&|<>!\\",
    "",
    "--",
    "- x: [y]",
]
_NAMES = "gcloud kubectl srun scontrol squeue sudo systemctl journalctl python3 python"
_RECORD = """#!/usr/bin/env bash
# Words end with a zero, calls with a word of their own.
printf '%s\\0' "${0##*/}" "$@" END-OF-CALL >> "$CALLS"
source "$ANSWERS"
"""


class FakeCommands:
    """Commands on a path of their own.

    Attributes:
      home: an empty folder, the home and the working directory.
      environment: in which the fakes are found before all else.
    """

    def __init__(self, folder: Path):
        """Writes the fakes into a folder."""
        self.home = folder / "home"
        self._calls, self._answers = folder / "calls", folder / "answers"
        path = folder / "bin"
        for created in (self.home, path):
            created.mkdir()
        self._path = path
        for name in _NAMES.split():
            self.fake(name)
        # Not the environment of the tests, in which SLURM or others may be.
        self.environment = {
            "PATH": f"{path}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "CALLS": str(self._calls),
            "ANSWERS": str(self._answers),
        }
        self.answer("")

    def fake(self, name: str) -> None:
        """Puts a fake in the place of one more command."""
        (self._path / name).write_text(_RECORD)
        (self._path / name).chmod(0o755)

    def answer(self, script: str) -> None:
        """What the fakes do, in bash: `$0` and `$*` say which was called, and how."""
        self._answers.write_text(script)

    def run(self, script: str, *arguments: str, **variables: str):
        """Runs a script of launch/ to its end."""
        return subprocess.run(
            ["bash", str(ROOT / "launch" / script), *arguments],
            cwd=self.home,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self) -> list[list[str]]:
        """The words of all calls so far, in order."""
        content = self._calls.read_text() if self._calls.exists() else ""
        calls = content.split("END-OF-CALL\0")[:-1]
        return [call.split("\0")[:-1] for call in calls]


def remote_command(call: list[str]) -> str:
    """What gcloud's ssh would run on the hosts."""
    (found,) = (word for word in call if word.startswith("--command="))
    return found.removeprefix("--command=")
