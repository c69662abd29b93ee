"""The sets of the mini world: their names and what each shows; nothing here draws, so names come at once."""

import re
from dataclasses import dataclass

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

MARK = "-d"
"""Another draw of a set has its number after this: `mini-test-d2`. The set's bare name is draw 0."""


def parse(name: str) -> tuple[str, int]:
    """A dataset's name as set and draw.

    Raises:
        KitError: unknown set or draw.
    """
    base, mark, draw = name.rpartition(MARK)
    if not mark or not re.fullmatch(r"[1-9][0-9]{0,8}", draw):
        base, draw = name, "0"
    if base not in SETS:
        near, known = nearest(name, SETS), ", ".join(SETS)
        raise KitError(
            f"unknown generated dataset {shown(name)}; the nearest is {near!r} (known: {known}, each "
            f"also with {MARK}1, {MARK}2 ... for other draws)."
        )
    return base, int(draw)


def named(base: str, draw: int) -> str:
    """The name of a draw of a set; draw 0 has the bare name."""
    return f"{base}{MARK}{draw}" if draw else base


def is_generated(name: str) -> bool:
    """Whether `name` is a dataset of the mini world."""
    try:
        parse(name)
    except KitError:
        return False
    return True
