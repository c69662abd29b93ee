"""Starting processes that do not run the user's script once more."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def main_hidden() -> Iterator[None]:
    """Processes started in this block do not import the script that is running.

    A spawned process imports it, to find functions that stand in it. The kit sends functions of its own
    alone, and a script without `if __name__ == "__main__":` would begin all its work again in each process.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
