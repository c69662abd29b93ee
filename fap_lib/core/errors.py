"""The one error a user is meant to read."""

import difflib
from collections.abc import Iterable


class KitError(Exception):
    """Something outside the kit is wrong: a file, a setting, the machine.

    The message is one sentence: what is wrong, where, and what to do. Everything that is not a
    `KitError` is a defect of the kit and keeps its traceback.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, for a message about a mistyped one."""
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0)[0]
