"""The mini world on disk: datasets in MVTec AD's folder layout, with fixed splits and independent draws."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.layouts import mvtec_like
from data_prep.mini.generator import KINDS, kinds_of, sample
from data_prep.mini.sets import SETS, parse
from data_prep.workers import each
from fap_lib.core import arguments
from fap_lib.core.errors import KitError
from fap_lib.core.files import locked, whole_folder
from fap_lib.data.manifest import Manifest, read_manifest, write_manifest

SIZE_FACTOR = 1.15
"""Defects of the datasets, relative to the generator's own sizes."""


def generate(folder: Path, name: str) -> Manifest:
    """The dataset `name` in `folder`, generated unless it is there already.

    Images lie as MVTec AD's do (`CATEGORY/train/good`, `CATEGORY/test/DEFECT`,
    `CATEGORY/ground_truth/DEFECT`), with the objects' outlines beside them (`CATEGORY/foreground/DEFECT`).
    The folder appears when it is whole; an interrupted generation leaves nothing that could be taken for one.

    Raises:
        KitError: unknown name; a target folder that holds something else; a disk that cannot take it.
    """
    base, draw, scale = parse(name)
    folder = arguments.new_folder(folder)
    with locked(folder.with_name(f".{folder.name}.drawing")):  # the second of two finds it drawn
        if (folder / "meta.json").is_file() and read_manifest(folder).name == name:
            return read_manifest(folder)
        if folder.exists() and any(folder.iterdir()):
            raise KitError(
                f"{folder} is not empty and does not hold {name}; give another folder or empty it."
            )
        with whole_folder(folder) as unfinished:
            for _ in each(partial(_draw, unfinished, scale), plan(base, draw), f"drawing {name}"):
                pass
            manifest = Manifest(unfinished, name, "nonzero", mvtec_like(unfinished, SETS[base].categories))
            about = {"title": f"generated images: {', '.join(SETS[base].categories)}", "draw": draw}
            write_manifest(manifest, about | ({"scale": scale} if scale > 1 else {}))
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


def _draw(root: Path, scale: int, job: Job) -> None:
    """One image below `root`, with its mask and its foreground."""
    category, split, kind, index, seed = job
    one = sample(category, None if kind == "good" else kind, seed, SIZE_FACTOR, scale)
    _save(root / f"{category}/{split}/{kind}/{index:03}.png", one.pixels)
    if split == "test":
        _save(root / f"{category}/foreground/{kind}/{index:03}.png", one.foreground)
        if kind != "good":
            _save(root / f"{category}/ground_truth/{kind}/{index:03}_mask.png", one.mask)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    Image.fromarray(picture).save(path, compress_level=1)
