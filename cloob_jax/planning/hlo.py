"""The text of a compiled program, as `compiled.as_text()` gives it."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?%?([\w.\-]+) = (.+?) ([a-z][a-z\d\-]*)\(([^)]*)"
)
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch|called)_computations=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_INTEGER = re.compile(r"= [su]\d+\[\]\S* constant\((\d+)\)")
_ARRAY = re.compile(r"\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
# They are given a function of two scalars; other callers run a part of the program.
_GIVEN_A_FUNCTION = frozenset(
    "reduce reduce-window scatter select-and-scatter sort map all-reduce "
    "all-reduce-start reduce-scatter".split()
)
_PARTITIONS = re.compile(r"num_partitions=(\d+)")


class Array(NamedTuple):
    """One array of a result.

    Attributes:
      num_bytes: without what its layout pads.
      is_in_hbm: False where the compiler has placed it in memory on the chip.
    """

    num_bytes: int
    is_in_hbm: bool


class Instruction(NamedTuple):
    """A line of a computation.

    Attributes:
      name: by which others refer to it.
      opcode: such as `all-reduce` or `fusion`.
      arrays: of the result, a tuple's one after the other.
      operands: names in the same computation.
      called: names of the computations that it runs.
      text: the whole line.
    """

    name: str
    opcode: str
    arrays: list[Array]
    operands: list[str]
    called: list[str]
    text: str


class Program:
    """The computations of a program.

    Attributes:
      computations: by name; the last instruction of each is its result.
      entry: the name of the one that runs.
      num_devices: that it is split over.
    """

    def __init__(self, text: str):
        """Reads the text."""
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        partitions = _PARTITIONS.search(text.partition("\n")[0])
        self.num_devices = int(partitions[1]) if partitions else 1
        instructions: list[Instruction] = []
        for line in text.splitlines():
            if head := _COMPUTATION.match(line):
                instructions = self.computations[head[2]] = []
                self.entry = head[2] if head[1] else self.entry
            elif parts := _INSTRUCTION.match(line):
                instructions.append(_instruction(line, parts))

    def executed(
        self, into_fusions: bool = True
    ) -> Iterator[tuple[str, Instruction, int | None]]:
        """Each instruction with its computation, and how often it runs.

        That is None in a loop of unknown length. All branches of a conditional count.
        """
        yield from self._executed(self.entry, 1, into_fusions)

    def _executed(
        self, name: str, times: int | None, into_fusions: bool
    ) -> Iterator[tuple[str, Instruction, int | None]]:
        for instruction in self.computations[name]:
            yield name, instruction, times
            if instruction.opcode == "fusion" and not into_fusions:
                continue
            repeats: int | None = 1
            if instruction.opcode == "while":
                repeats = self._trip_count(instruction)
            inside = None if times is None or repeats is None else times * repeats
            for callee in instruction.called:
                yield from self._executed(callee, inside, into_fusions)

    def _trip_count(self, loop: Instruction) -> int | None:
        """XLA's own word, or else the bound that the condition compares with.

        The loops that JAX's scan makes count from 0 to a constant by 1.
        """
        if known := _TRIP_COUNT.search(loop.text):
            return int(known[1])
        condition = _CONDITION.search(loop.text)
        assert condition is not None
        lines = [each.text for _, each, _ in self._executed(condition[1], 1, True)]
        bounds = [found[1] for line in lines if (found := _INTEGER.search(line))]
        is_below = any("direction=LT" in line for line in lines)
        return int(bounds[0]) if len(bounds) == 1 and is_below else None


def _instruction(line: str, parts: re.Match) -> Instruction:
    name, result, opcode, operands = parts.groups()
    called = [] if opcode in _GIVEN_A_FUNCTION else _CALLED.findall(line)
    for branches in _BRANCHES.findall(line):
        called += re.findall(r"[\w.\-]+", branches)
    arrays = [
        Array(_num_bytes(found), "S(" not in (found[3] or ""))
        for found in _ARRAY.finditer(result)
    ]
    return Instruction(name, opcode, arrays, _NAME.findall(operands), called, line)


def _num_bytes(array: re.Match) -> int:
    bits = int(array[1] or 8)  # a `pred` has no number, and takes a byte
    return math.ceil(math.prod(map(int, filter(None, array[2].split(",")))) * bits / 8)
