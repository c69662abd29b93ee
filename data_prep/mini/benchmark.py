"""The mini world on disk: datasets in MVTec AD's folder layout, with fixed splits and independent draws."""

import difflib
import shutil
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.mini.generator import KINDS, kinds_of, sample
from fap_lib.errors import KitError
from fap_lib.files import disk_errors
from fap_lib.manifest import Manifest, Record, read_manifest, write_manifest
from fap_lib.progress import bar

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
    if not mark or not draw.isdecimal():
        base, draw = name, "0"
    if base not in SETS:
        near = difflib.get_close_matches(name, SETS, n=1, cutoff=0)[0]
        raise KitError(
            f"unknown generated dataset {name!r}; the nearest is {near!r} (known: {', '.join(SETS)}, each "
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


def write(folder: Path, name: str, workers: int = 2) -> Manifest:
    """The dataset `name` in `folder`, generated unless it is there already.

    Images lie as MVTec AD's do (`CATEGORY/train/good`, `CATEGORY/test/DEFECT`,
    `CATEGORY/ground_truth/DEFECT`), with the objects' outlines beside them (`CATEGORY/foreground/DEFECT`).
    The folder appears when it is whole; an interrupted generation leaves nothing that could be taken for one.

    Raises:
        KitError: unknown name; a target folder that holds something else; a disk that cannot take it.
    """
    base, draw = parse(name)
    folder = folder.expanduser().resolve()
    if (folder / "meta.json").is_file() and read_manifest(folder).name == name:
        return read_manifest(folder)
    if folder.exists() and any(folder.iterdir()):
        raise KitError(f"{folder} is not empty and does not hold {name}; give another folder or empty it.")
    partial_ = folder.with_name(f".{folder.name}.partial")
    with disk_errors(folder):
        shutil.rmtree(partial_, ignore_errors=True)
        partial_.mkdir(parents=True)
        jobs = [(category, number) for number, category in enumerate(SETS[base].categories)]
        work = partial(_category, partial_, base, draw)
        if workers > 1:
            # Not forked: a process that has used torch cannot be copied safely.
            with get_context("spawn").Pool(min(workers, len(jobs))) as pool:
                parts = list(bar(pool.imap(work, jobs), f"drawing {name}", len(jobs)))
        else:
            parts = [work(job) for job in bar(jobs, f"drawing {name}", len(jobs))]
        train = [record for part in parts for record in part[0]]
        test = [record for part in parts for record in part[1]]
        manifest = Manifest(partial_, name, "nonzero", {"train": train, "test": test})
        write_manifest(
            manifest, {"title": f"generated images: {', '.join(SETS[base].categories)}", "draw": draw}
        )
        if folder.exists():
            folder.rmdir()
        partial_.rename(folder)
    return read_manifest(folder)


def _category(root: Path, base: str, draw: int, job: tuple[str, int]) -> tuple[list[Record], list[Record]]:
    """One category's files below `root`; its train and its test records."""
    category, number = job
    chosen = SETS[base]
    kinds = [kind for kind in kinds_of(category) if kind not in chosen.without]
    plan = [("train", "good", index) for index in range(chosen.train)]
    plan += [("test", "good", index) for index in range(chosen.good)]
    plan += [("test", kind, index) for kind in kinds for index in range(chosen.each)]
    splits: dict[str, list[Record]] = {"train": [], "test": []}
    for split, kind, index in plan:
        which = KINDS.index(kind) + 1 if kind in KINDS else 0
        seed = [list(SETS).index(base), draw, number, int(split == "test"), which, index]
        one = sample(category, None if kind == "good" else kind, seed, SIZE_FACTOR)
        image = f"{category}/{split}/{kind}/{index:03}.png"
        _save(root / image, one.pixels)
        mask = None
        if split == "test":
            _save(root / f"{category}/foreground/{kind}/{index:03}.png", one.foreground)
            if kind != "good":
                mask = f"{category}/ground_truth/{kind}/{index:03}_mask.png"
                _save(root / mask, one.mask)
        splits[split].append(Record(image, mask, category, kind, int(kind != "good")))
    return splits["train"], splits["test"]


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    Image.fromarray(picture).save(path, compress_level=1)
