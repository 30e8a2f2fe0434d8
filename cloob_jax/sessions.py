"""From start to end of the processes of a run, again and again, and what came of it.

`sessions.json` in the run directory holds one object for each session, from which the
share of time in productive steps across restarts follows, the goodput.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from cloob_jax import writers
from cloob_jax.pulse import Pulse

_FILE = "sessions.json"
PARTS = ("step", "data", "exchange", "save", "evaluate", "start", "redone", "down")


@dataclasses.dataclass
class Session:
    """One life of a run's processes.

    Attributes:
      number: from 1.
      began: seconds since 1970, by process 0's clock.
      seen: likewise, the last that was heard.
      first_step: the step of the checkpoint from which it went on, or 0.
      last_step: the last step that ended.
      ended: `finished`, `stopped` (as asked), `failed`; None: killed, or it goes on.
      message: what was said at the end.
      host: of process 0.
      processes: how many.
      devices: in all of them.
      device_kind: JAX's word.
      seconds: by phase, see `pulse.Pulse`.
    """

    number: int
    began: float
    seen: float
    first_step: int
    last_step: int
    ended: str | None = None
    message: str = ""
    host: str = ""
    processes: int = 1
    devices: int = 1
    device_kind: str = ""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def read(workdir: Path | epath.Path) -> list[Session]:
    """The sessions of a run directory, the first one first; of a damaged file, none."""
    fields = {field.name: field for field in dataclasses.fields(Session)}
    try:
        rows = json.loads((workdir / _FILE).read_text(encoding="utf-8"))
        return [
            Session(**{name: row[name] for name in fields if name in row})
            for row in rows
        ]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return []


class Record:
    """Writes the session that goes on."""

    def __init__(self, workdir: Path, pulse: Pulse, step: int, **facts: Any):
        """Adds a session to those before.

        Args:
          workdir: the run directory.
          pulse: tells what the time is spent on.
          step: after which it goes on.
          **facts: other attributes of `Session`.
        """
        self._path, self._pulse = workdir / _FILE, pulse
        self._before = read(workdir)
        # What has passed since the process began; later the clock may jump.
        began = time.time() - sum(pulse.seconds().values())
        number = len(self._before) + 1
        self._session = Session(number, began, began, step, step, **facts)
        self.write(step)

    def write(self, step: int) -> dict[str, float]:
        """Writes how far it is, and returns `shares` so far."""
        session = self._session
        session.last_step, session.seconds = step, self._pulse.seconds()
        session.seen = session.began + sum(session.seconds.values())
        sessions = [*self._before, session]
        writers.write_json(self._path, [dataclasses.asdict(s) for s in sessions])
        return shares(sessions)

    def end(self, ended: str, message: str = "") -> None:
        """Writes how it has ended."""
        self._session.ended, self._session.message = ended, message
        self.write(self._session.last_step)


def shares(sessions: Sequence[Session]) -> dict[str, float]:
    """What the time since the first start went into; the shares add up to 1.

    Args:
      sessions: of one run, the first one first.

    Returns:
      The share of each of `PARTS`: `step` is the goodput, steps of which the run still
      has the result; `redone` are those that a kill has undone; `down` is the time in
      which nothing was heard of any session.
    """
    seconds = dict.fromkeys(PARTS, 0.0)
    for index, session in enumerate(sessions):
        later = sessions[index + 1 :]
        for phase, spent in session.seconds.items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
        done = session.last_step - session.first_step
        kept = min([s.first_step for s in later], default=session.last_step)
        undone = min(max(session.last_step - kept, 0), done)
        if undone:
            redone = session.seconds.get("step", 0.0) * undone / done
            seconds["step"] -= redone
            seconds["redone"] += redone
        if later:
            # A clock that was put back would make it negative.
            seconds["down"] += max(later[0].began - session.seen, 0.0)
    total = sum(seconds.values())
    return {part: spent / total if total else 0.0 for part, spent in seconds.items()}
