"""What the notebooks need of a machine: one line each, with what to do where it is missing."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from packaging.requirements import Requirement

from fap_lib.core import paths

OLDEST, NEWEST = (3, 11), (3, 13)
_GPU_ONLY = ("nvidia-", "cuda-", "triton")


class Check(NamedTuple):
    """One thing: what it is, what was found, and what to do (empty where all is well)."""

    what: str
    found: str
    advice: str

    def __str__(self) -> str:
        line = f"{'no' if self.advice else 'ok':3} {self.what:9} {self.found}"
        return f"{line}\n    {self.advice}" if self.advice else line


def checks(data: str) -> list[Check]:
    """All checks, in the order in which things go wrong.

    Args:
        data: the dataset that the notebooks look at.
    """
    return [python(), packages(), device(), dataset(data)]


def python(running: tuple[int, int] = (sys.version_info.major, sys.version_info.minor)) -> Check:
    """Whether this Python is one the kit is tested with."""
    good = OLDEST <= running <= NEWEST
    advice = "Choose one of 3.11, 3.12 and 3.13: `make clean`, then `make setup PYTHON=python3.12`."
    return Check("Python", ".".join(map(str, running)), "" if good else advice)


def packages() -> Check:
    """Whether everything in the lock is installed; another version is said, and is no fault."""
    missing, other, count = [], 0, 0
    for line in paths.LOCK.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        wanted = Requirement(text)
        if wanted.name.startswith(_GPU_ONLY) or (wanted.marker and not wanted.marker.evaluate()):
            continue
        count += 1
        try:
            other += not wanted.specifier.contains(version(wanted.name), prereleases=True)
        except PackageNotFoundError:
            missing.append(wanted.name)
    advice = (
        f"Missing: {', '.join(missing[:5])}. Run `make setup`, and start Jupyter as `.venv/bin/jupyter lab "
        "notebooks`, or this notebook runs in another Python."
    )
    found = f"{count - len(missing)} of {count}" + (f", {other} of another version" if other else "")
    return Check("packages", found, advice if missing else "")


def device() -> Check:
    """What the notebooks run on. A CPU is enough for the mini profile."""
    import torch

    if torch.cuda.is_available():
        return Check("device", torch.cuda.get_device_name(), "")
    where = platform.processor() or platform.machine()
    return Check(
        "device", f"CPU ({where}), {torch.get_num_threads()} threads: enough for the mini profile", ""
    )


def dataset(data: str) -> Check:
    """Whether a dataset is prepared."""
    root = paths.dataset(data)
    here = (root / "meta.json").is_file()
    advice = f"Run `make demo`, which draws the generated ones, or `fap data prepare {root.name}`."
    return Check("dataset", f"{data} {'is there' if here else 'is not there'}", "" if here else advice)
