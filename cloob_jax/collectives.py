"""Traffic between devices, read from the text of a compiled program."""

import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch|called)_computations=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_INTEGER = re.compile(r"= [su]\d+\[\]\S* constant\((\d+)\)")
_ARRAY = re.compile(r"\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_CHAIN = re.compile(r'chain_id="(\d+)"')
_LISTED = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_COUNTED = re.compile(r"replica_groups=\[\d+,(\d+)\]<=")
_NAMED = re.compile(r"replica_groups=mesh\[(.*?)\].*? \{(.*?)\}")
_PARTITIONS = re.compile(r"num_partitions=(\d+)")


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
    bytes: float
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


def count(text: str) -> Traffic:
    """The collectives of one run of a program, a device.

    One in a loop counts as often as the loop runs, an asynchronous one where it
    starts, one that XLA spreads over a chain of fusions once; all branches count.

    Args:
      text: of the optimised HLO, as `compiled.as_text()` gives it.
    """
    computations, entry = _computations(text)
    partitions = _PARTITIONS.search(text.partition("\n")[0])
    num_devices = int(partitions[1]) if partitions else 1
    found: dict[str, Collective] = {}
    chains, unknown = set(), 0
    for line, times in _executed(computations, entry, 1):
        collective = _COLLECTIVE.search(line)
        if collective is None:
            continue
        if chain := _CHAIN.search(line):
            if chain[1] in chains:
                continue
            chains.add(chain[1])
        unknown += times is None
        times = times or 1
        kind = collective[2]
        size, received = _sizes(collective, _group_size(line, num_devices))
        before = found.get(kind, Collective(0, 0, 0))
        found[kind] = Collective(
            before.count + times,
            before.bytes + times * size,
            before.received_bytes + times * received,
        )
    return Traffic({kind: found[kind] for kind in KINDS if kind in found}, unknown)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the first to run."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if line.startswith(" "):
            lines.append(line)
        elif head := _COMPUTATION.match(line):
            lines = computations[head[2]] = []
            entry = head[2] if head[1] else entry
    return computations, entry


def _executed(
    computations: dict[str, list[str]], name: str, times: int | None
) -> Iterator[tuple[str, int | None]]:
    """Each line that runs, and how often; None in a loop of unknown length."""
    for line in computations[name]:
        yield line, times
        called = _CALLED.findall(line)
        for branches in _BRANCHES.findall(line):
            called += re.findall(r"[\w.\-]+", branches)
        if not called:
            continue
        repeats = _trip_count(computations, line) if " while(" in line else 1
        inside = None if times is None or repeats is None else times * repeats
        for callee in called:
            yield from _executed(computations, callee, inside)


def _trip_count(computations: dict[str, list[str]], line: str) -> int | None:
    """How often a `while` runs: XLA's own word, or else the bound that it compares.

    The loops that JAX's scan makes count from 0 to a constant by 1.
    """
    if known := _TRIP_COUNT.search(line):
        return int(known[1])
    condition = _CONDITION.search(line)
    assert condition is not None
    lines = computations[condition[1]]
    bounds = [found[1] for line in lines if (found := _INTEGER.search(line))]
    text = "\n".join(line for line, _ in _executed(computations, condition[1], 1))
    return int(bounds[0]) if len(bounds) == 1 and "direction=LT" in text else None


def _sizes(collective: re.Match, group_size: int) -> tuple[float, float]:
    """Bytes of the arrays, and those of them that arrive."""
    result, kind, is_started = collective.groups()
    arrays = [_num_bytes(array) for array in _ARRAY.finditer(result)]
    share = (group_size - 1) / group_size
    if kind == "collective-permute":
        # A started one has its operand, its result, and two words of its own.
        size = arrays[1] if is_started else sum(arrays)
        return size, size
    if kind == "all-gather" and is_started:
        arrays = arrays[len(arrays) // 2 :]  # operands, then results
    size = sum(arrays)
    if kind == "reduce-scatter":
        size *= group_size
    return size, (2 if kind == "all-reduce" else 1) * share * size


def _num_bytes(array: re.Match) -> float:
    bits = int(array[1] or 8)
    return math.prod(map(int, filter(None, array[2].split(",")))) * bits / 8


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
