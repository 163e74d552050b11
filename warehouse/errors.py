"""The one error that a user is meant to read."""


class SelfRepairError(Exception):
    """Something the user can mend: the text names what was asked, what was found and the next step.

    The command line prints it without a traceback and exits with 1.
    """
