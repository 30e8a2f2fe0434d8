"""The one exception that stands for a mistake which the user can mend."""


class UserError(Exception):
    """A mistake in a flag, a config field, a path or a data file.

    The message is a single line: it names the thing, says what was expected and
    what to do. Commands print it and exit with status 2.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython asks for it: a notebook shows the line alone, as commands do.
        return [f"cloob_jax: {self}"]
