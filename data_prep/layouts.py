"""Raw layouts: from the folder of a download to its records, one short function a layout.

Every function takes the root of the raw download and the dataset's categories, and returns records whose
paths are relative to that root. Listings are sorted and masks are found by name, so nothing depends on the
order of the file system. Stray files (Thumbs.db, .DS_Store, macOS's ._ files) are passed over.
"""

import csv
import math
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path, PurePosixPath

from fap_lib.core.errors import KitError
from fap_lib.data.manifest import Record, Split

Splits = dict[Split, list[Record]]
Layout = Callable[[Path, tuple[str, ...]], Splits]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"}
GOOD = ("good", "ok")
"""Folders of normal images in MVTec-like trees."""
MASK_ENDINGS = ("_mask", "")
"""What a mask's name has after its image's, in MVTec-like trees."""
HELD_OUT = 0.25
"""Share of the normal images kept for the test where the official converters split."""


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name.

    Raises:
        KitError: the folder is missing or holds no image, or a name cannot be stored in a manifest.
    """
    files = visible_images(folder) if folder.is_dir() else []
    if not files:
        raise KitError(f"there are no images in {folder}; the download is not complete or not unpacked.")
    return files


def visible_images(folder: Path) -> list[Path]:
    """The image files of an existing folder, sorted by name; possibly none.

    Raises:
        KitError: a name cannot be stored in a manifest or shown in a message.
    """
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    for path in files:
        if not path.name.isprintable():
            raise KitError(
                f"the file name {path.name!r} in {folder} has characters that cannot be printed; rename it."
            )
    return files


def folders(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted by name.

    Raises:
        KitError: the folder is missing.
    """
    if not folder.is_dir():
        raise KitError(f"there is no folder {folder}; the download is not complete or not unpacked.")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def part(root: Path, name: str) -> Path:
    """The folder `name` in `root` or one level below it; a doubled folder (`name/name`) is entered.

    Raises:
        KitError: there is none.
    """
    for found in (root / name, *(child / name for child in folders(root))):
        if found.is_dir():
            while (found / name).is_dir():
                found = found / name
            return found
    raise KitError(f"there is no folder {name} in {root}; the download is not complete or not unpacked.")


def held_out(count: int) -> set[int]:
    """Which of `count` normal images are tested: those that scikit-learn's `train_test_split(test_size=0.25,
    random_state=42)` draws, as in the official converters (`InCTRL/datasets/preprocess/convert_*.py`).

    Raises:
        KitError: fewer than two images.
    """
    if count < 2:
        raise KitError(f"there are only {count} normal images to split; the download is not complete.")
    import numpy as np  # slow to load, and layouts are at hand wherever a dataset is named

    drawn = np.random.RandomState(42).permutation(count)
    return set(drawn[: math.ceil(HELD_OUT * count)].tolist())


def by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by name without suffix.

    Raises:
        KitError: no images, or two of the same stem, so that pairing by name would be a guess.
    """
    found: dict[str, Path] = {}
    for path in image_files(folder):
        if path.stem in found:
            raise KitError(
                f"{found[path.stem].name} and {path.name} in {folder} have the same stem; remove one."
            )
        found[path.stem] = path
    return found


def paired(
    images: Path, masks: Path, record: Callable[[Path, Path], Record], endings: Collection[str] = ("",)
) -> list[Record]:
    """Records of the images in one folder with their masks in another, by name: STEM and STEM + ending.

    Raises:
        KitError: an image without a mask, or a mask without an image: part of the download is missing.
    """
    found = by_stem(masks)
    records = []
    for stem, path in by_stem(images).items():
        name = next((stem + ending for ending in endings if stem + ending in found), None)
        if name is None:
            wanted = " or ".join(f"{stem}{ending}.*" for ending in endings)
            raise KitError(f"the image {path} has no mask {wanted} in {masks}; fetch the dataset again.")
        records.append(record(path, found.pop(name)))
    if found:
        mask = next(iter(found.values()))
        raise KitError(f"the mask {mask} has no image in {images}; fetch the dataset again, or remove it.")
    return records


def record_of(root: Path, category: str, defect: str, image: Path, mask: Path | None = None) -> Record:
    """The record of files below `root`; anomalous unless the defect is `good`."""
    names = [path.relative_to(root).as_posix() if path else None for path in (image, mask)]
    return Record(str(names[0]), names[1], category, defect, int(defect != "good"))


def mvtec_like(root: Path, categories: tuple[str, ...]) -> Splits:
    """MVTec AD, MPDD, BTAD, DTD-Synthetic: `CATEGORY/{train/good,test/DEFECT,ground_truth/DEFECT}`.

    BTAD says `ok` and `ko`, and mixes .bmp and .png. Masks are `STEM_mask.*` or `STEM.*`. A category that
    is missing as a whole has no records, which the check reports.
    """
    splits: Splits = {"train": [], "test": []}
    for category in categories:
        folder = root / category
        if not folder.is_dir():
            continue
        normal = partial(record_of, root, category, "good")
        for good in GOOD:
            if (folder / "train" / good).is_dir():
                splits["train"] += [normal(path) for path in image_files(folder / "train" / good)]
        for kind in folders(folder / "test"):
            if kind.name in GOOD:
                splits["test"] += [normal(path) for path in image_files(kind)]
            else:
                masks = folder / "ground_truth" / kind.name
                splits["test"] += paired(
                    kind, masks, partial(record_of, root, category, kind.name), MASK_ENDINGS
                )
    return splits


def visa(root: Path, categories: tuple[str, ...]) -> Splits:
    """VisA: `split_csv/1cls.csv` names split, label, image and mask of every image."""
    splits: Splits = {"train": [], "test": []}
    for where, row in _rows(root / "split_csv" / "1cls.csv", ("object", "split", "label", "image", "mask")):
        if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
            raise KitError(f"{where}: unknown split {row['split']!r} or label {row['label']!r}.")
        if row["object"] not in categories:
            raise KitError(f"{where}: unknown object {row['object']!r}.")
        anomalous = row["label"] == "anomaly"
        splits["train" if row["split"] == "train" else "test"].append(
            Record(
                inside(where, row["image"]),
                inside(where, row["mask"]) if anomalous else None,
                row["object"],
                "anomaly" if anomalous else "good",
                int(anomalous),
            )
        )
    return splits


def elpv(root: Path, categories: tuple[str, ...]) -> Splits:
    """ELPV: `labels.csv` (path, probability of a defect, cell type) beside `images/`.

    Cells of a probability between 0 and 1 are dropped; a quarter of the normal ones is tested, drawn in the
    order of the file as the official converter does.
    """
    table = root / "labels.csv"
    normal, anomalous = [], []
    for number, line in enumerate(_text(table).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            image, probability, kind = fields[0], float(fields[1]), fields[2]
        except (IndexError, ValueError) as error:
            raise KitError(
                f"{table}, line {number}: expected 'image probability type', found {line!r}."
            ) from error
        inside(f"{table}, line {number}", image)
        if probability == 0:
            normal.append(Record(image, None, categories[0], "good", 0))
        elif probability == 1:
            anomalous.append(Record(image, None, categories[0], kind, 1))
    return _quarter_tested(normal, anomalous)


def dagm(root: Path, categories: tuple[str, ...]) -> Splits:
    """DAGM2007: `ClassN/{Train,Test}/0001.PNG` and `Label/Labels.txt` with each image's label and mask.

    Labels.txt has a first line `1`, then separated by tabs: number, label, image, label, mask or 0.
    """
    names: tuple[tuple[Split, str], ...] = (("train", "Train"), ("test", "Test"))
    splits: Splits = {"train": [], "test": []}
    for category in categories:
        for split, name in names:
            folder = root / category / name
            if folder.is_dir():
                splits[split] += _dagm_part(root, folder, category)
    return splits


def _dagm_part(root: Path, folder: Path, category: str) -> list[Record]:
    table = folder / "Label" / "Labels.txt"
    images = by_stem(folder)
    records = []
    for number, line in enumerate(_text(table).splitlines()[1:], 2):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 5 or fields[1] not in ("0", "1"):
            raise KitError(
                f"{table}, line {number}: expected 'number label image label mask', found {line!r}."
            )
        stem, anomalous = Path(fields[2]).stem, fields[1] == "1"
        if stem not in images:
            raise KitError(f"{table}, line {number}: the image {fields[2]} is not in {folder}.")
        record = partial(record_of, root, category, "defect" if anomalous else "good")
        mask = folder / "Label" / inside(f"{table}, line {number}", fields[4])
        records.append(record(images.pop(stem), mask if anomalous else None))
    if images:
        raise KitError(f"{next(iter(images.values()))} is not listed in {table}; fetch the dataset again.")
    return records


def headct(root: Path, categories: tuple[str, ...]) -> Splits:
    """HeadCT: `labels.csv` (`id, hemorrhage`) and `head_ct/head_ct/000.png`; all images are tested."""
    images = part(root, "head_ct")
    records = []
    for where, row in _rows(root / "labels.csv", ("id", "hemorrhage")):
        if not row["id"].isdecimal() or row["hemorrhage"] not in ("0", "1"):
            raise KitError(f"{where}: expected a number and 0 or 1, found {', '.join(row.values())}.")
        defect = "hemorrhage" if row["hemorrhage"] == "1" else "good"
        records.append(partial(record_of, root, categories[0], defect)(images / f"{int(row['id']):03}.png"))
    return {"test": sorted(records, key=lambda record: record.image)}


def no_and_yes(root: Path, categories: tuple[str, ...]) -> Splits:
    """BrainMRI, Br35H: folders `no` and `yes`; all images are tested, other folders (`pred`) are not."""
    return {
        "test": [
            partial(record_of, root, categories[0], defect)(path)
            for folder, defect in (("no", "good"), ("yes", "tumour"))
            for path in image_files(root / folder)
        ]
    }


def lag(root: Path, categories: tuple[str, ...]) -> Splits:
    """LAG: `{non,suspicious}_glaucoma/image`; the attention maps beside them are no masks. A quarter of the
    normal images is tested."""
    normal, anomalous = (
        [
            partial(record_of, root, categories[0], defect)(path)
            for path in image_files(root / folder / "image")
        ]
        for folder, defect in (("non_glaucoma", "good"), ("suspicious_glaucoma", "glaucoma"))
    )
    return _quarter_tested(normal, anomalous)


def polyps(root: Path, categories: tuple[str, ...]) -> Splits:
    """Polyp sets: `images` and `masks` (CVC-ClinicDB's own: `Original`, `Ground Truth`), of equal stems."""
    originals = (root / "Original").is_dir()
    images, masks = ("Original", "Ground Truth") if originals else ("images", "masks")
    return {"test": paired(root / images, root / masks, partial(record_of, root, categories[0], "polyp"))}


def isic(root: Path, categories: tuple[str, ...]) -> Splits:
    """ISIC 2016 task 1: two folders, masks called `STEM_Segmentation.png`."""
    images, masks = (part(root, f"ISBI2016_ISIC_Part1_Test_{what}") for what in ("Data", "GroundTruth"))
    record = partial(record_of, root, categories[0], "lesion")
    return {"test": paired(images, masks, record, ("_Segmentation",))}


def tn3k(root: Path, categories: tuple[str, ...]) -> Splits:
    """TN3K: `test-image` and `test-mask`, both JPEG, of equal stems."""
    record = partial(record_of, root, categories[0], "nodule")
    return {"test": paired(root / "test-image", root / "test-mask", record)}


def inside(where: str, path: str) -> str:
    """`path`, if it is a relative path that stays in its folder; `where` it stands is for the message.

    Raises:
        KitError: it does not.
    """
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise KitError(f"{where}: the path {path!r} leaves the dataset's folder.")
    return path


def _quarter_tested(normal: list[Record], anomalous: list[Record]) -> Splits:
    tested = held_out(len(normal))
    return {
        "train": [record for index, record in enumerate(normal) if index not in tested],
        "test": [record for index, record in enumerate(normal) if index in tested] + anomalous,
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"the table {path} cannot be read ({error}); fetch the dataset again.") from error


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table with a header, each with its place for messages; spaces around values are dropped.

    Raises:
        KitError: the table is unreadable, lacks a column, or a row is shorter than the header.
    """
    reader = csv.DictReader(_text(path).splitlines(), skipinitialspace=True)
    if not set(columns) <= set(reader.fieldnames or ()):
        raise KitError(f"{path} must have the columns {', '.join(columns)}; found {reader.fieldnames}.")
    rows = []
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if any(row[column] is None for column in columns):
            raise KitError(f"{where}: the row is cut short; fetch the dataset again.")
        rows.append((where, {column: row[column].strip() for column in columns}))
    return rows
