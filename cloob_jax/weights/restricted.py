"""Unpickling without running what a pickle names.

A pickle may name any function to be called. Here those few are known that make tensors
and plain containers, and any other is refused by its name.
"""

import contextlib
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cloob_jax.errors import UserError


class Refused(Exception):
    """The file holds something that is not wanted; the message says what."""


class Unpickler(pickle._Unpickler):
    """Knows the globals of a table and no others, and sets no attributes.

    The standard library's in Python: the one in C reserves as much memory as a few
    bytes of a file ask for.
    """

    stack: list[Any]
    read: Callable[[int], bytes]
    dispatch = dict(pickle._Unpickler.dispatch)  # type: ignore[misc]

    def __init__(self, file: Any, known: Mapping[tuple[str, str], Callable]):
        super().__init__(file, encoding="utf-8")
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `module.name`.

        Raises:
          Refused: nothing does.
        """
        if (module, name) in self._known:
            return self._known[module, name]
        raise Refused(
            f"holds {module}.{name}, which is neither a tensor nor a plain container; "
            "nothing of the file was run or used"
        )

    def load_build(self) -> None:
        """Gives an object its state, if its class here takes one; else drops it."""
        state = self.stack.pop()
        set_state = getattr(type(self.stack[-1]), "__setstate__", None)
        if set_state is not None:
            set_state(self.stack[-1], state)

    def load_bytearray8(self) -> None:
        """Reads what is there, and reserves no more than that."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.stack.append(bytearray(self.read(size)))

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8  # type: ignore[assignment]


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turns whatever reading raises into one line that names the file."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except Refused as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes spell
        raise UserError(f"{path}: damaged: {type(error).__name__}: {error}") from None
