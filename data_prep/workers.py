"""The same work on many files, in several processes."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from fap_lib.core.errors import KitError
from fap_lib.core.processes import main_hidden
from fap_lib.core.progress import bar

Job = TypeVar("Job")
Result = TypeVar("Result")

_LEAST = 200  # jobs a process; below that, starting it takes longer than the work
_CHUNK = 16


def each(work: Callable[[Job], Result], jobs: Sequence[Job], title: str) -> Iterator[Result]:
    """`work` of every job, in the order of `jobs`, with a progress bar.

    Raises:
        KitError: a worker raised one, or was killed (memory).
    """
    processes = min(os.cpu_count() or 1, len(jobs) // _LEAST)
    if processes < 2:
        yield from bar(map(work, jobs), title, len(jobs))
    else:
        yield from spread(work, jobs, title, processes, _CHUNK)


def spread(
    work: Callable[[Job], Result], jobs: Sequence[Job], title: str, processes: int, chunk: int = 1
) -> Iterator[Result]:
    """`work` of every job in `processes` processes, `chunk` jobs at a time; see `each`."""
    named = _by_name(work)
    # Not forked: a process that has used torch cannot be copied safely.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_die_with_parent)
    try:
        # The processes start here, and inherit this: Ctrl-C is for this one alone.
        with main_hidden(), _without_interrupts():
            results = pool.map(named, jobs, chunksize=chunk)
        yield from bar(results, title, len(jobs))
    except BrokenProcessPool as error:
        raise KitError(
            "a worker process was killed, probably for want of memory; close other programs and run it again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _by_name(work: Callable[[Job], Result]) -> Callable[[Job], Result]:
    """`work` as other processes find it: a function of the module that runs (`python -m`) by its own name."""
    if isinstance(work, partial):
        return partial(_by_name(work.func), *work.args, **work.keywords)
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if getattr(work, "__module__", None) != "__main__" or spec is None:
        return work
    found: Callable[[Job], Result] = getattr(import_module(spec.name), work.__name__)
    return found


def _die_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however it went."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()  # on a pipe whose other end only the parent has
        os._exit(1)

    Thread(target=watch, daemon=True).start()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back for a moment; it comes afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
