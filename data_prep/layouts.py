"""Raw layouts: from the folder of a download to the records of its test split.

Paths in records are relative to the given root. Listings are sorted and masks are found by name, so
nothing depends on the order of the file system. Stray files (Thumbs.db, .DS_Store) are passed over.
"""

import math
from pathlib import Path

from sklearn.model_selection import train_test_split

from fap_lib.errors import KitError
from fap_lib.manifest import Record

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
HELD_OUT = 0.25
"""Share of the normal images kept for the test where the official converters split."""


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name.

    Raises:
        KitError: the folder is missing or holds no image.
    """
    files = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if folder.is_dir()
        else []
    )
    if not files:
        raise KitError(f"there are no images in {folder}; the download is not complete or not unpacked.")
    return files


def elpv(root: Path) -> list[Record]:
    """ELPV: `labels.csv` (path, probability of a defect, cell type) beside `images/`.

    Every probability between 0 and 1 is dropped; the normal test cells are those that
    `train_test_split(test_size=0.25, random_state=42)` draws in the order of the file, as the official
    converter does.
    """
    table = root / "labels.csv"
    normal: list[tuple[str, str]] = []
    anomalous: list[tuple[str, str]] = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            image, probability, kind = fields[0], float(fields[1]), fields[2]
        except (IndexError, ValueError) as error:
            raise KitError(
                f"{table}, line {number}: expected 'image probability type', found {line!r}."
            ) from error
        if probability in (0.0, 1.0):
            (anomalous if probability else normal).append((image, kind))
    if len(normal) < 2 or not anomalous:
        raise KitError(
            f"{table} lists {len(normal)} normal and {len(anomalous)} defective cells; is it complete?"
        )
    kept = set(train_test_split(normal, test_size=math.ceil(HELD_OUT * len(normal)), random_state=42)[1])
    return [Record(image, None, "elpv", "good", 0) for image, kind in normal if (image, kind) in kept] + [
        Record(image, None, "elpv", kind, 1) for image, kind in anomalous
    ]


def brainmri(root: Path) -> list[Record]:
    """Brain MRI: folders `no` and `yes`; all images are tested."""
    return [
        Record(path.relative_to(root).as_posix(), None, "brainmri", defect, label)
        for folder, defect, label in (("no", "good", 0), ("yes", "tumour", 1))
        for path in image_files(root / folder)
    ]


def images_and_masks(root: Path) -> list[Record]:
    """Polyps: `images/` and `masks/` with the same stems; every image is anomalous."""
    masks = {path.stem: path for path in image_files(root / "masks")}
    records = []
    for path in image_files(root / "images"):
        if path.stem not in masks:
            raise KitError(f"the image {path} has no mask {path.stem}.* in {root / 'masks'}; fetch it again.")
        image, mask = (file.relative_to(root).as_posix() for file in (path, masks[path.stem]))
        records.append(Record(image, mask, "colon", "polyp", 1))
    return records
