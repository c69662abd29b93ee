"""The mark of what is finished, a step of a run or a job of a grid: written last, it names the record."""

from pathlib import Path

from fap_lib.core.files import read_json, write_json

DONE = "done.json"
"""The mark of a finished step or job: its record's SHA-256, and the seconds it took."""


def is_marked(place: Path, digest: str) -> bool:
    """Whether the step or job in `place` was finished with the record of this hash."""
    mark = place / DONE
    return mark.is_file() and read_json(mark, "mark of a finished job")["job"] == digest


def mark(place: Path, digest: str, seconds: float) -> None:
    """Mark the step or job in `place` as finished."""
    write_json(place / DONE, {"job": digest, "seconds": round(seconds, 2)})
