"""The sets of the mini world: their names and what each shows; nothing here draws, so names come at once."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from fap_lib.core.errors import KitError, nearest, shown


@dataclass(frozen=True)
class Set:
    """One dataset. without: defects it never shows. good, each, train: images a category: normal and of each
    defect in the test split, normal in the train split."""

    categories: tuple[str, ...]
    without: tuple[str, ...]
    good: int = 40
    each: int = 4
    train: int = 20


UNSEEN = ("glue", "thread", "swapped")
"""Defects that neither the pre-training nor an auxiliary set has; only tests do."""

SETS = {
    # Auxiliary sets: prompts are learned on one of them (the roles of MVTec AD and VisA).
    "mini-a": Set(
        ("wood", "fabric", "grid", "capsule", "washer", "gear"), (*UNSEEN, "rust", "burn", "distortion")
    ),
    "mini-b": Set(
        ("tile", "brick", "perforated", "cookie", "chip", "button"), (*UNSEEN, "scratch", "ink", "dent")
    ),
    # All tuning happens here.
    "mini-val": Set(("marble", "concrete", "cap", "coin"), UNSEEN),
    # Leather, nut and cable were never seen in pre-training either.
    "mini-test": Set(("leather", "metal", "carpet", "corrugated", "nut", "cable", "pill", "screw"), ()),
    # Another kind of image (the role of the medical datasets); speckle was never seen in pre-training.
    "mini-organs": Set(
        ("scan", "mucosa", "speckle"), ("scratch", "thread", "ink", "rust", "dirt", "cut"), good=50, each=6
    ),
}

LARGEST = 5
"""The largest scale: larger images would be wider than the bank of noise they are drawn from."""


class Drawing(NamedTuple):
    """What a dataset's name says. scale: how many times as large its images are, the defects aside."""

    base: str
    draw: int = 0
    scale: int = 1

    def __str__(self) -> str:
        """The name: `mini-test`, its second draw `mini-test-d2`, that at scale 4 `mini-test-d2-x4`."""
        draw, scale = f"-d{self.draw}" if self.draw else "", f"-x{self.scale}" if self.scale > 1 else ""
        return self.base + draw + scale


_NAME = re.compile(rf"(?P<base>.+?)(-d(?P<draw>[1-9][0-9]{{0,8}}))?(-x(?P<scale>[2-{LARGEST}]))?")


def parse(name: str) -> Drawing:
    """What a dataset's name says.

    Raises:
        KitError: unknown set, draw or scale.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["base"] not in SETS:
        near, known = nearest(name, SETS), ", ".join(SETS)
        raise KitError(
            f"unknown generated dataset {shown(name)}; the nearest is {near!r} (known: {known}, each "
            f"also with -d1, -d2 ... for other draws, and then -x2 to -x{LARGEST} for larger images)."
        )
    return Drawing(match["base"], int(match["draw"] or 0), int(match["scale"] or 1))


def named(base: str, draw: int) -> str:
    """The name of a draw of a set; draw 0 has the bare name."""
    return str(Drawing(base, draw))


def is_generated(name: str) -> bool:
    """Whether `name` is a dataset of the mini world."""
    try:
        parse(name)
    except KitError:
        return False
    return True
