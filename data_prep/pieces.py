"""The pixels of images that a protocol cuts (`cuts.py`): which pieces are anomalous, and their files."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.strips import Strip
from fap_lib.core.errors import KitError
from fap_lib.data.images import binarise, open_image
from fap_lib.data.manifest import Record


def _united(strip: Strip, size: tuple[int, int]) -> np.ndarray:
    """The union of a strip's masks, (H, W) bool."""
    whole = np.zeros(size[::-1], dtype=bool)
    for path in strip.masks:
        mask = open_image(path)
        if mask.size != size:
            raise KitError(f"the mask {path} is not as large as its image {strip.image}.")
        whole |= binarise(mask, "nonzero")
    return whole


def anomalous(strip: Strip) -> list[bool]:
    """Which pieces of a strip have an anomalous pixel."""
    size = open_image(strip.image).size
    mask = _united(strip, size)
    return [bool(mask[top:bottom, left:right].any()) for left, top, right, bottom in strip.boxes(*size)]


def save(folder: Path, job: tuple[Strip, list[tuple[int, Record]]]) -> None:
    """Write the pieces of one strip, and the masks of the anomalous ones."""
    strip, pieces = job
    image = open_image(strip.image)
    mask = _united(strip, image.size)
    boxes = strip.boxes(*image.size)
    for index, record in pieces:
        left, top, right, bottom = boxes[index]
        _write(folder / record.image, image.crop(boxes[index]))
        if record.mask:
            _write(folder / record.mask, Image.fromarray(mask[top:bottom, left:right]).convert("L"))


def _write(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=1)
