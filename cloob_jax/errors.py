"""The one exception that stands for a mistake which the user can mend."""


class UserError(Exception):
    """A mistake in a flag, a config field, a path or a data file.

    The message is a single line: it names the thing, says what was expected and
    what to do. Commands print it and exit with status 2.
    """
