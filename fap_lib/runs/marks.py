"""The mark of what is finished, a step of a run or a job of a grid: written last, it names the record."""

from pathlib import Path
from typing import Any

from fap_lib.core.errors import KitError
from fap_lib.core.sealed import read_sealed, write_sealed

DONE = "done.json"
"""The mark of a finished step or job: its record's SHA-256, and the seconds it took."""


def is_marked(place: Path, digest: str) -> bool:
    """Whether the step or job in `place` was finished with the record of this hash. A mark that is damaged
    says nothing, so what it marked is done again."""
    try:
        return bool(_read(place)["job"] == digest)
    except KitError:
        return False


def is_damaged(place: Path) -> bool:
    """Whether there is a mark, and it is not as it was written."""
    try:
        _read(place)
    except KitError:
        return (place / DONE).exists()
    return False


def seconds(place: Path) -> float:
    """How long the finished step or job in `place` took.

    Raises:
        KitError: its mark is missing or damaged.
    """
    return float(_read(place)["seconds"])


def mark(place: Path, digest: str, seconds: float) -> None:
    """Mark the step or job in `place` as finished."""
    write_sealed(place / DONE, {"job": digest, "seconds": round(seconds, 2)})


def _read(place: Path) -> dict[str, Any]:
    return read_sealed(place / DONE, "mark of a finished job", "run it again")
