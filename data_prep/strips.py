"""A raw image that a protocol cuts into pieces: its files, its names, and where it is cut."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Box = tuple[int, int, int, int]
"""Left, upper, right, lower, in pixels."""


@dataclass(frozen=True)
class Strip:
    """A raw image that is cut: its mask files (several are united; none: all of it is normal), the name its
    pieces begin with, what its anomalous pieces show, and whether its other pieces count as normal.
    boxes: image size to pieces."""

    image: Path
    masks: tuple[Path, ...]
    name: str
    defect: str
    others_normal: bool
    boxes: Callable[[int, int], list[Box]]
