"""What one image of a dataset and its mask are: readable, how large, which bytes, which pixels.

Apart from the registry, so that worker processes start quickly.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.data.images import binarise, mask_values, opened
from fap_lib.data.manifest import MaskRule, Record, Split

LEVELS = (0, 1, 4, 128, 255)
"""Where the ranges of grey values begin in which a mask's pixels are counted."""

TINY = 16  # pixels; smaller images hardly fill a patch
_NARROW = 2**12  # values of 16-bit images that stay below it come from a sensor of 12 bits or fewer
_SOFT = 0.01  # share of a mask's pixels between its two rules
_ROTATION = 0x0112  # EXIF orientation; 1 is upright
_WIDE_MODES = ("I", "F")  # more than 16 bits: no agreed range, so conversion to RGB would clip


@dataclass(frozen=True)
class Facts:
    """What one image and its mask are. anomalous: mask pixels per rule. levels: pixels
    per range of `LEVELS`, of a mask with more than two values. problem: why it cannot be used.
    notes: what a user should know. Fields are None where a file could not be read or does not exist."""

    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    mask_sha256: str | None = None
    anomalous: dict[MaskRule, int] | None = None
    levels: tuple[int, ...] | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()


def inspect(root: Path, record: Record) -> Facts:
    """Decode and hash an image of the dataset in `root`, and its mask."""
    try:
        facts = _image(root / record.image)
        return facts if record.mask is None else _with_mask(facts, root / record.image, root / record.mask)
    except KitError as error:
        return Facts(problem=str(error))


def _image(path: Path) -> Facts:
    notes = []
    with opened(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            notes.append("has several frames; only the first is used")
        if image.getexif().get(_ROTATION, 1) != 1:
            notes.append("is stored rotated (EXIF), and is used as stored; save it upright if that is wrong")
        image.load()
        width, height = image.size
        if image.mode in _WIDE_MODES:
            raise KitError(
                f"the image {path} has {image.mode}-mode pixels, which have no fixed range; "
                "save it with 8 or 16 bits."
            )
        if image.mode.startswith("I;16") and 0 < np.asarray(image).max() < _NARROW:
            notes.append(
                "has 16-bit pixels of 12 bits or fewer, and is read nearly black; scale its values up"
            )
        if min(width, height) < TINY:
            notes.append(f"is smaller than {TINY} pixels")
        mode, kind = image.mode, image.format
    return Facts(sha256(path), width, height, mode, kind, notes=tuple(notes))


def _with_mask(facts: Facts, image: Path, path: Path) -> Facts:
    with opened(path) as mask:
        mask.load()
        if mask.size != (facts.width, facts.height):
            raise KitError(
                f"the mask {path} is {mask.width}x{mask.height} pixels but its image {image} is "
                f"{facts.width}x{facts.height}; a mask must be as large as its image."
            )
        anomalous: dict[MaskRule, int] = {
            rule: int(np.count_nonzero(binarise(mask, rule))) for rule in ("nonzero", "half")
        }
        values = np.bincount(mask_values(mask).ravel(), minlength=256)
    levels = tuple(map(int, np.add.reduceat(values, LEVELS))) if np.count_nonzero(values) > 2 else None
    notes = facts.notes
    if 0 < anomalous["half"] < (1 - _SOFT) * anomalous["nonzero"]:
        notes += ("has a mask with soft edges (grey pixels), so that its rule matters",)
    return replace(facts, mask_sha256=sha256(path), anomalous=anomalous, levels=levels, notes=notes)


def line(split: Split, record: Record, facts: Facts, rule: MaskRule) -> dict[str, Any]:
    """An image's line of `manifest.jsonl`."""
    content = asdict(facts)
    for key in ("problem", "notes", "anomalous", "levels"):
        del content[key]
    pixels = facts.anomalous[rule] if facts.anomalous else None
    return {"split": split, **asdict(record), **content, "anomalous_pixels": pixels}
