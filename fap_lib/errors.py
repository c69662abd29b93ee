"""The one error a user is meant to read."""


class KitError(Exception):
    """Something outside the kit is wrong: a file, a setting, the machine.

    The message is one sentence: what is wrong, where, and what to do. Everything that is not a
    `KitError` is a defect of the kit and keeps its traceback.
    """
