"""Which images a command is to score: files, patterns, and folders, perhaps with labels and masks."""

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fap_lib.core import arguments
from fap_lib.core.errors import KitError
from fap_lib.data.images import load_mask, opened
from fap_lib.data.manifest import MaskRule, Record
from fap_lib.runs.preparation import own_images

UNKNOWN = "unknown"
"""The kind of an image that no folder says anything about."""


class Sources:
    """Images on disk, as a set that metrics can be taken of.

    root: the folder that all of them are in. records: paths below it, labels and masks where known.
    rules: how each one's mask is read. image_size: pixels of a side at which masks are read.
    """

    def __init__(self, root: Path, records: list[Record], rules: list[MaskRule], image_size: int):
        self.name = root.name or "images"
        self.root = root
        self.records = records
        self.rules = rules
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.records)

    def paths(self) -> list[Path]:
        """Absolute paths, in order."""
        return [self.root / record.image for record in self.records]

    @property
    def labels(self) -> list[int | None]:
        return [record.label for record in self.records]

    def masks(self, index: np.ndarray) -> Tensor:
        """Masks (b, S, S) bool at the scored size; all False for images without one."""
        return torch.from_numpy(np.stack([self._mask(place) for place in index]))

    def part(self, index: Sequence[int]) -> "Sources":
        """Some of the images."""
        records, rules = [self.records[place] for place in index], [self.rules[place] for place in index]
        return Sources(self.root, records, rules, self.image_size)

    def _mask(self, place: int) -> np.ndarray:
        record = self.records[place]
        if record.mask is None:
            return np.zeros((self.image_size, self.image_size), dtype=bool)
        with opened(self.root / record.image) as image:
            size = image.size
        return load_mask(self.root / record.mask, self.rules[place], size, self.image_size)


def gather(given: Sequence[str], image_size: int) -> Sources:
    """The images that files, patterns (`photos/*.jpg`, `**` for any depth) and folders name, each once.

    A folder is understood as `fap data folder` understands it, so it may bring labels and masks.

    Raises:
        KitError: a name that is nothing of the kind, a pattern that fits nothing, a folder without images.
    """
    found: dict[Path, tuple[Path, Record, MaskRule]] = {}
    for text in given:
        for root, record, rule in _named(text):
            found.setdefault(root / record.image, (root, record, rule))
    if not found:
        raise KitError("there are no images to score; give files, patterns or folders.")
    roots = {root for root, _, _ in found.values()}
    common = roots.pop() if len(roots) == 1 else Path(os.path.commonpath(roots))
    records = [_below(common, root, record) for root, record, _ in found.values()]
    return Sources(common, records, [rule for _, _, rule in found.values()], image_size)


def _named(text: str) -> list[tuple[Path, Record, MaskRule]]:
    path = arguments.place(text)
    if path.is_dir():
        records, rule = own_images(path)
        return [(path, record, rule) for record in records]
    if path.is_file():
        files = [path]
    elif glob.has_magic(text):
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if os.path.isfile(name)]
        if not files:
            raise KitError(
                f"no file fits the pattern {text}; check it, and quote it so that the shell does not."
            )
    else:
        raise KitError(f"there is no folder, image or pattern {path}; give what holds your images.")
    return [
        (file.parent, Record(file.name, None, file.parent.name, UNKNOWN, None), "nonzero") for file in files
    ]


def _below(root: Path, old: Path, record: Record) -> Record:
    """A record's paths from another folder."""
    if old == root:
        return record
    start = old.relative_to(root)
    mask = None if record.mask is None else str(start / record.mask)
    return replace(record, image=str(start / record.image), mask=mask)
