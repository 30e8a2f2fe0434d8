"""Traffic between a chip and its memory (HBM), read from a compiled program.

XLA's own `bytes accessed` takes the body of a loop once, and counts what the compiler
keeps on the chip like what it fetches from memory. This count knows loops and places.
"""

from cloob_jax.planning.hlo import Array, Instruction, Program

# They name, group or wait for what others have moved.
_MOVE_NOTHING = frozenset(
    "parameter constant tuple get-tuple-element bitcast after-all partition-id "
    "replica-id iota opt-barrier".split()
)
_SLICES = frozenset({"dynamic-slice", "slice", "gather"})
# Places for results to come, and neighbours seen as one.
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast")
# Inside a fusion: collectives, which fill their results in a chain of fusions.
_ELSEWHERE = frozenset({"custom-call", "all-gather", "all-reduce", "reduce-scatter"})


def count(program: Program) -> int:
    """Bytes that one run of a program reads from and writes to HBM, a device.

    Each instruction reads its operands and writes its results, as far as they lie in
    HBM; a fusion is one instruction. Of an operand that is only cut from, the cuts are
    read; of a result that is updated in place, the update is written. What is read
    again within an instruction, or padded by its layout, is not counted, nor what a
    loop of unknown length repeats: the count is a lower bound.
    """
    total = 0
    walk = _Walk(program)
    for computation, instruction, times in program.executed(into_fusions=False):
        if not instruction.opcode.endswith("-done"):
            total += (times or 1) * walk.moved(computation, instruction)
    return total


class _Walk:
    """A program's instructions by name, and who uses whom."""

    def __init__(self, program: Program):
        self._program = program
        self._by_name = {
            name: {each.name: each for each in instructions}
            for name, instructions in program.computations.items()
        }
        self._users: dict[str, dict[str, list[tuple[Instruction, int]]]] = {}
        for name, instructions in program.computations.items():
            users = self._users[name] = {}
            for each in instructions:
                for index, operand in enumerate(each.operands):
                    users.setdefault(operand, []).append((each, index))

    def moved(self, computation: str, instruction: Instruction) -> int:
        """What one run of an instruction moves."""
        opcode, results = instruction.opcode, instruction.arrays
        operands = [self._by_name[computation][name] for name in instruction.operands]
        if opcode in _MOVE_NOTHING or _is_free_call(instruction):
            return 0
        if instruction.called and opcode != "fusion":
            return 0  # what it calls is looked at by itself
        if opcode == "slice-start":  # the operand, the slice, a word of its own
            source, piece, *_ = results
            return piece.num_bytes * (source.is_in_hbm + piece.is_in_hbm)
        if opcode.endswith("-start"):  # the result names the operand as well
            return _in_hbm(results)
        if opcode in _SLICES:
            size = sum(array.num_bytes for array in results)
            return size * _is_in_hbm(operands[0].arrays) + _in_hbm(results)
        if opcode == "dynamic-update-slice":
            return _in_hbm(operands[1].arrays) + self._written(computation, instruction)
        read = sum(
            self._read(instruction, index, operand.arrays)
            for index, operand in enumerate(operands)
        )
        return read + self._written(computation, instruction)

    def _read(self, user: Instruction, index: int, operand: list[Array]) -> int:
        """What an instruction reads of one operand."""
        whole = _in_hbm(operand)
        if not whole or user.opcode != "fusion":
            return whole
        return min(whole, self._read_inside(user.called[0], f"({index})", whole))

    def _read_inside(self, computation: str, parameter: str, whole: int) -> int:
        [name] = [
            each.name
            for each in self._program.computations[computation]
            if each.opcode == "parameter" and f"parameter{parameter}" in each.text
        ]
        return self._read_by_users(computation, name, whole)

    def _read_by_users(self, computation: str, name: str, whole: int) -> int:
        total = 0
        for user, index in self._users[computation].get(name, []):
            if user.opcode in _SLICES and index == 0:
                total += sum(array.num_bytes for array in user.arrays)
            elif user.opcode == "bitcast":
                total += self._read_by_users(computation, user.name, whole)
            elif user.opcode == "fusion":
                total += self._read_inside(user.called[0], f"({index})", whole)
            elif user.opcode == "dynamic-update-slice" and index == 0:
                pass  # what it does not update stays where it is
            elif user.opcode not in _ELSEWHERE:
                return whole
        return total

    def _written(self, computation: str, instruction: Instruction) -> int:
        """What an instruction writes of its results."""
        opcode, names = instruction.opcode, self._by_name[computation]
        if opcode == "fusion":
            inside = instruction.called[0]
            root = self._program.computations[inside][-1]
            sources = (
                [self._by_name[inside][name] for name in root.operands]
                if root.opcode == "tuple"
                else [root]
            )
            if len(sources) != len(instruction.arrays):
                return _in_hbm(instruction.arrays)
            return sum(
                min(array.num_bytes, self._made(inside, source))
                for source, array in zip(sources, instruction.arrays, strict=True)
                if array.is_in_hbm
            )
        if opcode == "dynamic-update-slice":
            update = names[instruction.operands[1]].arrays[0].num_bytes
            return update * _is_in_hbm(instruction.arrays)
        return _in_hbm(instruction.arrays)

    def _made(self, computation: str, source: Instruction) -> int:
        """How many bytes of a fusion's result are new."""
        names = self._by_name[computation]
        if source.opcode == "dynamic-update-slice":
            return names[source.operands[1]].arrays[0].num_bytes
        if source.opcode == "bitcast":
            return self._made(computation, names[source.operands[0]])
        if source.opcode == "get-tuple-element":
            made_by = names[source.operands[0]].opcode
            return 0 if made_by in _ELSEWHERE else source.arrays[0].num_bytes
        if source.opcode in (*_ELSEWHERE, "parameter"):
            return 0
        if source.opcode == "fusion":
            inside = source.called[0]
            return self._made(inside, self._program.computations[inside][-1])
        return sum(array.num_bytes for array in source.arrays)


def _is_free_call(instruction: Instruction) -> bool:
    return instruction.opcode == "custom-call" and any(
        f'custom_call_target="{target}"' in instruction.text for target in _FREE_CALLS
    )


def _in_hbm(arrays: list[Array]) -> int:
    return sum(array.num_bytes for array in arrays if array.is_in_hbm)


def _is_in_hbm(arrays: list[Array]) -> bool:
    return any(array.is_in_hbm for array in arrays)
