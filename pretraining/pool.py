"""The pool: pre-training images, drawn once by worker processes and kept in chunks."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data_prep.mini import captions
from data_prep.mini.canvas import COLOURS, SIZE
from data_prep.mini.generator import CATEGORIES, KINDS, kinds_of, sample
from data_prep.workers import spread
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic
from fap_lib.core.untrusted import arrays
from pretraining.recipes import UNSEEN_CATEGORIES, UNSEEN_KINDS, Recipe

CHUNK = 1000


@dataclass(frozen=True)
class Pool:
    """The pre-training images. masks, foregrounds: packed bits. labels: (n, 6), see `_chunk`."""

    pixels: np.ndarray
    masks: np.ndarray
    foregrounds: np.ndarray
    labels: np.ndarray

    def bits(self, packed: np.ndarray, row: int) -> np.ndarray:
        return np.unpackbits(packed[row]).reshape(SIZE, SIZE).astype(bool)


def draw_pool(folder: Path, recipe: Recipe, workers: int = 2) -> Pool:
    """The pool of generated images, from `folder` or drawn now, chunk by chunk; a damaged chunk is drawn
    again."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(recipe.images // CHUNK)
    files = [_file(folder, number) for number in numbers]
    kept = {number: part for number in numbers if (part := _read(files[number])) is not None}
    wanted = [number for number in numbers if number not in kept]
    if wanted:
        for _ in spread(partial(_chunk, folder, recipe), wanted, "drawing images", workers):
            pass
    parts = [kept[number] if number in kept else arrays(files[number]) for number in numbers]
    return Pool(
        *(np.concatenate([part[key] for part in parts]) for key in ("pixels", "masks", "fores", "labels"))
    )


def _read(file: Path) -> dict[str, np.ndarray] | None:
    """A chunk; None if it is not there, or damaged."""
    try:
        return arrays(file) if file.exists() else None
    except KitError:
        return None


def _file(folder: Path, number: int) -> Path:
    return folder / f"chunk-{number:03}.npz"


def _chunk(folder: Path, recipe: Recipe, number: int) -> None:
    """CHUNK images as one file.

    labels: category, kind (-1: normal), tone and colour of the defect, colour and background (-1: none).
    """
    names = list(CATEGORIES)
    seen = [name for name in names if name not in UNSEEN_CATEGORIES]
    rng = np.random.default_rng([recipe.seed, 1, number])
    pixels, masks, fores, labels = [], [], [], []
    for index in range(CHUNK):
        category = seen[index % len(seen)]
        kind = None
        if rng.random() < recipe.anomalous:
            possible = [kind for kind in kinds_of(category) if kind not in UNSEEN_KINDS]
            kind = possible[rng.integers(len(possible))]
        one = sample(category, kind, [recipe.seed, 2, number, index], size=float(rng.uniform(0.9, 1.6)))
        tone, colour = (0, 0)
        if kind is not None:
            measured = captions.measure(one.pixels, one.mask)
            tone, colour = captions.TONES.index(measured[0]), list(COLOURS).index(measured[1])
        pixels.append(one.pixels)
        masks.append(np.packbits(one.mask))
        fores.append(np.packbits(one.foreground))
        own = [
            list(COLOURS).index(one.words[slot]) if slot in one.words else -1
            for slot in ("colour", "background")
        ]
        labels.append([names.index(category), -1 if kind is None else KINDS.index(kind), tone, colour, *own])
    with atomic(_file(folder, number)) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            pixels=np.stack(pixels),
            masks=np.stack(masks),
            fores=np.stack(fores),
            labels=np.array(labels, np.int8),
        )
