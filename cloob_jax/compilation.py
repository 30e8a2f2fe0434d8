"""Compiling the train step in a thread."""

import dataclasses
import queue
import threading
from collections.abc import Callable

from cloob_jax.program import Program

THREAD = "compiling"  # its name


def begin(program: Program) -> Callable[[], Program]:
    """Begins to compile the train step, while there is something else to do.

    Returns:
      What waits for it: the same program with a train step that is compiled.
    """
    box: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            arguments = program.abstract_state, program.abstract_batch
            box.put((program.train_step.lower(*arguments).compile(), None))  # type: ignore[attr-defined]
        except Exception as error:
            box.put((None, error))

    threading.Thread(target=work, daemon=True, name=THREAD).start()

    def wait() -> Program:
        train_step, error = box.get()
        if error is not None:
            raise error
        return dataclasses.replace(program, train_step=train_step)

    return wait
