"""What stands for a mistake that the user can mend, or for a trouble that may pass."""


class UserError(Exception):
    """A mistake in a flag, a config field, a path or a data file.

    The message is a single line: it names the thing, says what was expected and
    what to do. Commands print it and exit with status 2.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython asks for it: a notebook shows the line alone, as commands do.
        return [f"cloob_jax: {self}"]


class Outage(UserError):
    """Something that is not there now, and may be at the next try: a process, a store.

    Commands print it and exit with status 1, after which a supervisor starts anew.
    """
