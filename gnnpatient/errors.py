"""What the package says when it will not go on: one type, so that callers can tell a refusal from a bug."""


class Refused(ValueError):
    """Bad input, refused at the door. The message is one line: the thing, what it holds, what would do.

    The command line prints it and exits with 2.
    """
