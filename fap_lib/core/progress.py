"""Progress for people; silence for machines.

Progress shows in a terminal or a notebook that a person looks at. In a notebook that runs as a step of a
command it writes how far it is into a small file instead (`REPORT` names it), and the command shows it.
"""

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

Item = TypeVar("Item")

REPORT = "FAP_PROGRESS_FILE"
"""Environment variable: the file into which a kernel's bars write how far they are."""

_OFTEN = 0.2
"""Seconds between two reports, and between two looks at them."""


def bar(items: Iterable[Item], title: str, total: int | None = None, start: int = 0) -> Iterable[Item]:
    """`items` with their progress, in a terminal or a notebook a person looks at.

    Headless runs set `FAP_PROGRESS=0`: a notebook bar would store a widget nobody can open.

    Args:
        total: how many there are, where that is known. start: how many were done before.
    """
    if report := os.environ.get(REPORT):
        return _reported(items, total, start, Path(report)) if total else items
    if os.environ.get("FAP_PROGRESS") == "0":
        return items
    if in_notebook():
        from tqdm.auto import tqdm  # slow to import, and seldom seen

        return tqdm(items, desc=title, total=total, initial=start)
    return _shown(items, title, total, start, sys.stderr) if sys.stderr.isatty() else items


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def watched() -> bool:
    """Whether a person looks at this notebook while it runs."""
    return in_notebook() and os.environ.get("FAP_PROGRESS") != "0"


class Steps:
    """The steps of a command, told on a terminal: `[2/4] training  37 %  0:12 left`. Elsewhere it is silent.

    Args:
        total: how many there will be. stream: where to, by default the error output.
    """

    def __init__(self, total: int, stream: TextIO | None = None):
        self.total = total
        self.stream = stream or sys.stderr
        self.number = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step, with the progress that kernels started meanwhile report."""
        self.number += 1
        if not self.stream.isatty():
            yield
            return
        begun, ended = time.monotonic(), threading.Event()
        with tempfile.TemporaryDirectory(prefix="fap-") as folder:
            report = Path(folder) / "progress"
            looking = threading.Thread(target=self._watch, args=(title, report, ended), daemon=True)
            looking.start()
            before = os.environ.get(REPORT)
            os.environ[REPORT] = str(report)
            said = "stopped"
            try:
                yield
                said = f"{_clock(time.monotonic() - begun)}"
            finally:
                if before is None:
                    del os.environ[REPORT]
                else:
                    os.environ[REPORT] = before
                ended.set()
                looking.join()
                self._say(f"{title}  {said}", end="\n")

    def reused(self, title: str) -> None:
        """Tell that a step was finished before."""
        self.number += 1
        if self.stream.isatty():
            self._say(f"{title}  finished before, reused", end="\n")

    def _watch(self, title: str, report: Path, ended: threading.Event) -> None:
        self._say(title)
        while not ended.wait(_OFTEN):
            self._say(f"{title}{_so_far(report)}")

    def _say(self, text: str, end: str = "") -> None:
        self.stream.write(f"\r\x1b[K[{self.number}/{self.total}] {text}{end}")
        self.stream.flush()


def _reported(items: Iterable[Item], total: int, start: int, report: Path) -> Iterator[Item]:
    """`items`, and every now and then a line in `report`: how many are done, of how many, seconds left."""

    def tell(done: int, left: float | None) -> None:
        report.write_text(json.dumps([done, total, left]), encoding="utf-8")

    yield from _paced(items, total, start, tell)
    tell(total, 0.0)


def _shown(
    items: Iterable[Item], title: str, total: int | None, start: int, stream: TextIO
) -> Iterator[Item]:
    """`items`, and one line of a terminal that says how many are done."""

    def tell(done: int, left: float | None) -> None:
        stream.write(f"\r\x1b[K{title}{_share(done, total, left)}")
        stream.flush()

    begun, said = time.monotonic(), "stopped"
    try:
        yield from _paced(items, total, start, tell)
        said = _clock(time.monotonic() - begun)
    finally:
        stream.write(f"\r\x1b[K{title}  {said}\n")
        stream.flush()


def _paced(
    items: Iterable[Item], total: int | None, start: int, tell: Callable[[int, float | None], None]
) -> Iterator[Item]:
    """`items`; meanwhile `tell` gets, not too often, how many are done and, where known, the seconds left."""
    begun, told = time.monotonic(), 0.0
    for done, item in enumerate(items, start):
        now = time.monotonic()
        if now - told >= _OFTEN:
            tell(done, (now - begun) / (done - start) * (total - done) if total and done > start else None)
            told = now
        yield item


def _so_far(report: Path) -> str:
    """What a report says, in words; nothing where there is none, or where one is being written."""
    try:
        return _share(*json.loads(report.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ""


def _share(done: int, total: int | None, left: float | None) -> str:
    """`  37 %  0:12 left`; without a total the number done."""
    if not total:
        return f"  {done}"
    share = f"  {100 * done // total} %"
    return share if left is None or done >= total else f"{share}  {_clock(left)} left"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"
