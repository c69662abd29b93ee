"""The mini world on disk: datasets in MVTec AD's folder layout, with fixed splits and independent draws."""

import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.layouts import mvtec_like
from data_prep.mini.generator import KINDS, kinds_of, sample
from data_prep.workers import each
from fap_lib.core import arguments
from fap_lib.core.errors import KitError, nearest, shown
from fap_lib.core.files import disk_errors
from fap_lib.data.manifest import Manifest, read_manifest, write_manifest

SIZE_FACTOR = 1.15
"""Defects of the datasets, relative to the generator's own sizes."""


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


def write(folder: Path, name: str) -> Manifest:
    """The dataset `name` in `folder`, generated unless it is there already.

    Images lie as MVTec AD's do (`CATEGORY/train/good`, `CATEGORY/test/DEFECT`,
    `CATEGORY/ground_truth/DEFECT`), with the objects' outlines beside them (`CATEGORY/foreground/DEFECT`).
    The folder appears when it is whole; an interrupted generation leaves nothing that could be taken for one.

    Raises:
        KitError: unknown name; a target folder that holds something else; a disk that cannot take it.
    """
    base, draw = parse(name)
    folder = arguments.new_folder(folder)
    if (folder / "meta.json").is_file() and read_manifest(folder).name == name:
        return read_manifest(folder)
    if folder.exists() and any(folder.iterdir()):
        raise KitError(f"{folder} is not empty and does not hold {name}; give another folder or empty it.")
    partial_ = folder.with_name(f".{folder.name}.partial")
    with disk_errors(folder):
        shutil.rmtree(partial_, ignore_errors=True)
        partial_.mkdir(parents=True)
        for _ in each(partial(_draw, partial_), plan(base, draw), f"drawing {name}"):
            pass
        manifest = Manifest(partial_, name, "nonzero", mvtec_like(partial_, SETS[base].categories))
        write_manifest(
            manifest, {"title": f"generated images: {', '.join(SETS[base].categories)}", "draw": draw}
        )
        if folder.exists():
            folder.rmdir()
        partial_.rename(folder)
    return read_manifest(folder)


Job = tuple[str, str, str, int, list[int]]
"""One image: category, split, kind (`good` or a defect), number, and the seed that draws it."""


def plan(base: str, draw: int) -> list[Job]:
    """All images of a set's draw. Every image has a seed of its own, so none depends on another."""
    chosen = SETS[base]
    jobs = []
    for place, category in enumerate(chosen.categories):
        kinds = [kind for kind in kinds_of(category) if kind not in chosen.without]
        counts = [("train", "good", chosen.train), ("test", "good", chosen.good)]
        counts += [("test", kind, chosen.each) for kind in kinds]
        for split, kind, count in counts:
            which = 0 if kind == "good" else 1 + KINDS.index(kind)
            seed = [list(SETS).index(base), draw, place, int(split == "test"), which]
            jobs += [(category, split, kind, index, [*seed, index]) for index in range(count)]
    return jobs


def _draw(root: Path, job: Job) -> None:
    """One image below `root`, with its mask and its foreground."""
    category, split, kind, index, seed = job
    one = sample(category, None if kind == "good" else kind, seed, SIZE_FACTOR)
    _save(root / f"{category}/{split}/{kind}/{index:03}.png", one.pixels)
    if split == "test":
        _save(root / f"{category}/foreground/{kind}/{index:03}.png", one.foreground)
        if kind != "good":
            _save(root / f"{category}/ground_truth/{kind}/{index:03}_mask.png", one.mask)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    Image.fromarray(picture).save(path, compress_level=1)
