"""The list of records that could not be used, and the point at which a run gives up."""

import collections
import json
from pathlib import Path

import numpy as np

from cloob_jax import writers
from cloob_jax.data.pipeline import LoadPair
from cloob_jax.errors import UserError

_ENOUGH = 1000  # records to have seen before a share of them means anything


class BadRecords:
    """Bad records of a run, listed in `bad_records.jsonl` as they are met.

    The file is the state: a run that goes on reads it up to where it goes on from.

    Attributes:
      kinds: how many were met of each kind, see `augment.BadRecord`.
    """

    def __init__(
        self,
        workdir: Path,
        load: LoadPair,
        max_fraction: float,
        examples_seen: int = 0,
    ):
        """Starts with the faults that were found while indexing.

        Args:
          workdir: the run directory.
          load: tells names and reasons.
          max_fraction: of all records, and of those seen, that may be bad.
          examples_seen: where the run goes on from; what a killed run met later is
            forgotten, since this one meets it again.

        Raises:
          UserError: the index left out more than that share.
        """
        self.path = workdir / "bad_records.jsonl"
        self._load, self._max_fraction = load, max_fraction
        faults = load.source.faults
        rows = [
            {"shard": fault.shard, "key": fault.key, "reason": fault.reason}
            for fault in faults
        ]
        met = [
            row
            for row in writers.read_json_lines(self.path)
            if row.get("examples_seen", examples_seen + 1) <= examples_seen
        ]
        # Their numbers mean nothing in other data, with which the run may have begun.
        here = load.source.fingerprint
        self._met = {row["record"] for row in met if row.get("data", here) == here}
        self._num_others = len(faults) + len(met) - len(self._met)
        self.kinds = collections.Counter(row.get("kind", "other") for row in met)
        if rows or met or self.path.exists():
            lines = [json.dumps(row) + "\n" for row in rows + met]
            writers.write_text(self.path, "".join(lines))
        total = len(load.source)
        if len(faults) > max_fraction * (total + len(faults)):
            self._give_up(f"{len(faults)} faults beside {total} good records")

    def __len__(self) -> int:
        return self._num_others + len(self._met)

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
                self._list(record, examples_seen)
        total = len(self._load.source)
        seen = max(min(examples_seen, total), min(_ENOUGH, total))
        if len(self._met) > self._max_fraction * seen:
            self._give_up(f"{len(self._met)} bad records among the first {seen}")

    def _list(self, record: int, examples_seen: int) -> None:
        shard, key = self._load.source.name(record)
        fault = self._load.fault(record)
        self.kinds[fault.kind] += 1
        row = {
            "shard": shard,
            "key": key,
            "kind": fault.kind,
            "reason": str(fault),
            "record": record,
            "data": self._load.source.fingerprint,
            "examples_seen": examples_seen,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _give_up(self, what: str) -> None:
        raise UserError(
            f"{what}: more than config.data.max_bad_fraction={self._max_fraction:g} "
            f"allows; they are listed with their reasons in {self.path}"
        )
