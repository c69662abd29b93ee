"""Small datasets for the benchmark, drawn by the mini world's generator."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.mini.generator import kinds_of, sample
from fap_lib.data.manifest import Manifest, Record

CATEGORIES = ("wood", "washer")


def write_dataset(folder: Path, each: int) -> Manifest:
    """A dataset of two categories with `each` normal and `each` anomalous images, normal ones first."""
    records = []
    for number, category in enumerate(CATEGORIES):
        kinds = kinds_of(category)
        for index in range(2 * each):
            kind = kinds[index % len(kinds)] if index >= each else None
            drawn = sample(category, kind, [number, index])
            name = f"{category}-{index:03}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn.pixels).save(folder / f"{name}.png")
            Image.fromarray(drawn.mask.astype(np.uint8) * 255).save(folder / f"{name}-mask.png")
            mask = f"{name}-mask.png" if kind else None
            records.append(Record(f"{name}.png", mask, category, kind or "good", int(kind is not None)))
    return Manifest(folder.resolve(), folder.name, "nonzero", {"test": records})
