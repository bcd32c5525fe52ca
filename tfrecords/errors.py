"""The one exception for what a user can cause and mend."""


class InputError(ValueError):
    """Bad input: a flag, a file, a folder or a data set.

    The message names the thing, the value found, what is allowed and the fix. A command prints it
    without a traceback and exits with code 2; every other exception is an internal failure, code 1.
    """
