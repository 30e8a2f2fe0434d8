"""Traffic between devices, read from the text of a compiled program."""

import dataclasses
import math
import re

from cloob_jax.planning.hlo import Instruction, Program

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)

# A fusion of this name reduces, and keeps of the sums what is the device's own.
_REDUCE_SCATTER = "all-reduce-scatter"
_CHAIN = re.compile(r'chain_id="(\d+)"')
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_COUNTED = re.compile(r"replica_groups=\[\d+,(\d+)\]<=")
_NAMED = re.compile(r"replica_groups=mesh\[(.*?)\].*? \{(.*?)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind that a device takes part in.

    Attributes:
      count: how often one runs.
      bytes: of the arrays on the device, when gathered or still to be reduced.
      received_bytes: what at least has to arrive at the device: in a group of `g`
        devices `(g - 1) / g` of the bytes, twice that where all are to have the
        reduced array (its parts, then their sums), all of it where it is permuted.
    """

    count: int
    bytes: int
    received_bytes: float


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What the devices of a program send to one another in one run.

    Attributes:
      by_kind: those of the names in `KINDS` that occur.
      unknown: collectives in loops whose length the text does not tell; they are
        counted as if these loops ran once.
    """

    by_kind: dict[str, Collective]
    unknown: int


def count(program: Program) -> Traffic:
    """The collectives of one run of a program, a device.

    One in a loop counts as often as the loop runs, an asynchronous one where it
    starts, one that XLA spreads over a chain of fusions once.
    """
    found: dict[str, Collective] = {}
    chains, unknown = set(), 0
    for computation, instruction, times in program.executed():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        if chain := _CHAIN.search(instruction.text):
            if chain[1] in chains:
                continue
            chains.add(chain[1])
        unknown += times is None
        times = times or 1
        group_size = _group_size(instruction.text, program.num_devices)
        size, received = _sizes(instruction, kind, group_size)
        if kind == "all-reduce" and computation.startswith(_REDUCE_SCATTER):
            kind, received = "reduce-scatter", received / 2
        before = found.get(kind, Collective(0, 0, 0.0))
        found[kind] = Collective(
            before.count + times,
            before.bytes + times * size,
            before.received_bytes + times * received,
        )
    return Traffic({kind: found[kind] for kind in KINDS if kind in found}, unknown)


def _sizes(collective: Instruction, kind: str, group_size: int) -> tuple[int, float]:
    """Bytes of the arrays, and those of them that arrive."""
    arrays = [array.num_bytes for array in collective.arrays]
    is_started = collective.opcode != kind
    share = (group_size - 1) / group_size
    if kind == "collective-permute":
        # A started one has its operand, its result, and two words of its own.
        size = arrays[1] if is_started else sum(arrays)
        return size, float(size)
    if kind == "all-gather" and is_started:
        arrays = arrays[len(arrays) // 2 :]  # operands, then results
    size = sum(arrays)
    if kind == "reduce-scatter":
        size *= group_size
    return size, (2 if kind == "all-reduce" else 1) * share * size


def _group_size(line: str, num_devices: int) -> int:
    """How many devices take part, in one of the three ways of writing it."""
    if listed := _LISTED.search(line):
        return listed[1].count(",") + 1
    if counted := _COUNTED.search(line):
        return int(counted[1])
    if named := _NAMED.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    return num_devices
