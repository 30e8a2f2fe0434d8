"""The list of records that could not be used, and the point at which a run gives up."""

import json
from pathlib import Path

import numpy as np

from cloob_jax.data.pipeline import LoadPair
from cloob_jax.errors import UserError

_ENOUGH = 1000  # records to have seen before a share of them means anything


class BadRecords:
    """Distinct bad records of a run, listed in `bad_records.jsonl` as they are met.

    The file is the state: a run that goes on reads it, and lists nothing twice.
    """

    def __init__(self, workdir: Path, load: LoadPair, max_fraction: float):
        """Starts with the faults that were found while indexing.

        Args:
          workdir: the run directory.
          load: tells names and reasons.
          max_fraction: of the records seen that may be bad.
        """
        self.path = workdir / "bad_records.jsonl"
        self._load, self._max_fraction = load, max_fraction
        self._known: set[tuple[str, str]] = set()
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines if line.endswith("}")]
            self._known = {(row["shard"], row["key"]) for row in rows}
        self._met: set[int] = set()
        for fault in load.source.faults:
            self._add(fault.shard, fault.key, fault.reason)

    def __len__(self) -> int:
        return len(self._known)

    def check(self, bad: np.ndarray, examples_seen: int) -> None:
        """Lists what a batch had to replace.

        Args:
          bad: record numbers, -1 for none.
          examples_seen: so far, this batch included.

        Raises:
          UserError: more than the allowed share is bad.
        """
        for record in np.unique(bad[bad >= 0]).tolist():
            if record not in self._met:
                self._met.add(record)
                self._add(*self._load.source.name(record), self._load.fault(record))
        total = len(self._load.source)
        seen = max(min(examples_seen, total), min(_ENOUGH, total))
        if len(self) > self._max_fraction * seen:
            raise UserError(
                f"{len(self)} bad records among the first {seen}: more than "
                f"config.data.max_bad_fraction={self._max_fraction:g} allows; they are "
                f"listed with their reasons in {self.path}"
            )

    def _add(self, shard: str, key: str, reason: str) -> None:
        if (shard, key) in self._known:
            return
        self._known.add((shard, key))
        with self.path.open("a", encoding="utf-8") as file:
            row = {"shard": shard, "key": key, "reason": reason}
            file.write(json.dumps(row) + "\n")
