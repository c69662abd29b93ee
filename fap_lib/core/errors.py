"""The one error a user is meant to read."""

import difflib
from collections.abc import Iterable
from typing import Any

SHOWN = 200
"""Characters of a foreign value in a message; a file may hold a value of any length."""


class KitError(Exception):
    """Something outside the kit is wrong: a file, a setting, the machine.

    The message is one sentence: what is wrong, where, and what to do. Everything that is not a
    `KitError` is a defect of the kit and keeps its traceback.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, for a message about a mistyped one."""
    return difflib.get_close_matches(name[:SHOWN], list(known), n=1, cutoff=0)[0]


def shown(value: Any) -> str:
    """A foreign value for a message: as Python writes it, on one line, at most `SHOWN` characters."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."


def plain(value: Any) -> str:
    """A foreign value to be printed: as it is if it is short and holds no control character, else `shown`."""
    text = str(value)
    return text if text.isprintable() and len(text) <= SHOWN else shown(value)
