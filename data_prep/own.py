"""A folder of one's own as a dataset: with or without labels and masks, MVTec-like or not.

What is understood of a category's folder, by the names of its subfolders (in any case):

    test/good, test/DEFECT, ground_truth/DEFECT     as in MVTec AD, also train/good
    good, DEFECT ..., masks                         the same without `test`
    images, masks                                   a mask with an anomalous pixel: anomalous; empty: normal
    images only, in `images` or directly            unlabelled: scores, no metrics

A mask is called as its image is, or STEM_mask, STEM_label, STEM_gt, STEM_seg. Folders of masks have
one of the usual names (`MASKS`). A folder without images of its own and of no such form holds
one category a subfolder.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from data_prep.layouts import MASK_ENDINGS, Splits, folders, record_of, visible_images
from data_prep.mini.sets import is_generated
from data_prep.prepare import link, refuse_other, rule_of, store
from data_prep.registry import DATASETS
from fap_lib.core import arguments, paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import whole_folder
from fap_lib.data.images import binarise, open_image
from fap_lib.data.manifest import Manifest, MaskRule, Record, read_manifest

GOOD = ("good", "ok", "normal")
MASKS = (
    *("ground_truth", "masks", "mask", "gt", "ground truth", "groundtruth", "mask_images", "labels", "label"),
    *("annotations", "segmentation", "segmentations"),
)
ENDINGS = (*MASK_ENDINGS, "_label", "_gt", "_seg")
"""What a mask's name has after its image's."""
IMAGES = ("images", "image", "imgs")
BY_MASK = "anomaly"
"""The kind of images whose mask alone says that they are anomalous."""


def own(source: Path, name: str | None = None, destination: Path | None = None) -> Manifest:
    """Make a dataset of a folder; the images stay where they are.

    Args:
        name: the dataset's name; by default the folder's. destination: by default `paths.data()/NAME`.

    Raises:
        KitError: no folder or no images in it; a file that cannot be used; a destination that holds something
            else; the name of a benchmark dataset.
    """
    source = arguments.folder(source)
    name = arguments.name(name or re.sub(r"[^\w.-]+", "-", source.name).strip("-.") or "own")
    if is_generated(name):
        raise KitError(f"{name!r} is the name of a generated dataset; choose another name with --name.")
    if name in DATASETS:
        raise KitError(
            f"{name!r} is the name of a benchmark dataset: use `fap data prepare {name} --from {source}`, or "
            "choose another name with --name."
        )
    folder = arguments.new_folder(destination or paths.data() / name)
    if folder.is_relative_to(source) or source.is_relative_to(folder):
        raise KitError(f"{folder} and {source} are in each other; choose another destination with --to.")
    refuse_other(folder, name)
    with whole_folder(folder) as new:
        splits = link(new, source, understand(source))
        store(new, name, None, splits, {"title": f"own images, {source.name}", "raw": str(source)})
    return read_manifest(folder)


def understand(root: Path) -> Splits:
    """The records of a folder, with paths relative to it.

    Raises:
        KitError: no images where they are looked for.
    """
    places = [root] if _is_category(root) else folders(root)
    splits: Splits = {"train": [], "test": []}
    for place in places:
        train, test = _category(root, place)
        splits["train"] += train
        splits["test"] += test
    splits["test"] = _labelled(root, splits["test"])
    if not splits["test"]:
        raise KitError(
            f"there are no images to test in {root}; expected images, or subfolders such as good and the "
            "names of defects, or test/good and test/DEFECT."
        )
    return splits


def describe(manifest: Manifest) -> str:
    """What was understood, as a table: images and masks per split, category and kind."""
    words = {0: "normal", 1: "anomalous", None: "unlabelled"}
    images: Counter[tuple[str, ...]] = Counter()
    masks: Counter[tuple[str, ...]] = Counter()
    for split, records in manifest.splits.items():
        for record in records:
            key = (split, record.category, record.defect, words[record.label])
            images[key] += 1
            masks[key] += record.mask is not None
    rows: list[tuple[str, ...]] = [("split", "category", "kind", "label", "images", "masks")]
    rows += [(*key, str(count), str(masks[key])) for key, count in images.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _is_category(folder: Path) -> bool:
    names = {child.name.lower() for child in folders(folder)}
    return bool(visible_images(folder)) or bool(names & {"test", "train", *GOOD, *MASKS, *IMAGES})


def _category(root: Path, place: Path) -> tuple[list[Record], list[Record]]:
    """Train and test records of one category's folder."""
    test = _child(place, ("test",)) or place
    masks = _child(place, MASKS) or _child(test, MASKS)
    train = _child(place, ("train",))
    good = train and (_child(train, GOOD) or train)
    taught = [record_of(root, place.name, "good", path) for path in visible_images(good)] if good else []

    images = _child(test, IMAGES)
    kinds = [child for child in folders(test) if child not in (masks, train, images)]
    labelled = test != place or any(child.name.lower() in GOOD for child in kinds)
    tested = _by_mask(root, place, images or test, masks)
    for kind in kinds:
        if not labelled:
            tested += _by_mask(root, place, kind, None)
        elif kind.name.lower() in GOOD:
            tested += [record_of(root, place.name, "good", path) for path in visible_images(kind)]
        else:
            found = _masks(kind, masks and _child(masks, (kind.name.lower(),))) or _stems(masks)
            tested += [
                record_of(root, place.name, kind.name, path, _mask(path, found))
                for path in visible_images(kind)
            ]
    return taught, tested


def _by_mask(root: Path, place: Path, images: Path, masks: Path | None) -> list[Record]:
    """Images whose mask says whether they are anomalous; without a mask they are unlabelled."""
    files = visible_images(images)
    found = _masks(images, masks) or _beside(files)
    records = []
    for path in files:
        if path in found.values():
            continue
        mask = _mask(path, found)
        if mask is None:
            records.append(replace(record_of(root, place.name, "unknown", path), label=None))
        else:
            records.append(record_of(root, place.name, BY_MASK, path, mask))
    return records


def _labelled(root: Path, records: list[Record]) -> list[Record]:
    """Records with the label their mask gives where nothing else does: an empty mask means normal.

    All masks are read by one rule, as they are when pixels are scored.
    """
    rules: tuple[MaskRule, MaskRule] = ("nonzero", "half")
    counts: dict[str, dict[MaskRule, int]] = {}
    for record in records:
        if record.mask:
            mask = open_image(root / record.mask)
            counts[record.mask] = {rule: int(binarise(mask, rule).sum()) for rule in rules}
    rule = rule_of(list(counts.values()))
    return [
        replace(record, mask=None, defect="good", label=0)
        if record.mask and record.defect == BY_MASK and not counts[record.mask][rule]
        else record
        for record in records
    ]


def _child(folder: Path, names: Iterable[str]) -> Path | None:
    """The first subfolder that is called one of `names`, in any case."""
    there = {child.name.lower(): child for child in folders(folder)}
    return next((there[name] for name in names if name in there), None)


def _masks(images: Path, masks: Path | None) -> dict[str, Path]:
    """The masks in a folder by stem.

    Raises:
        KitError: none of them is called as one of the images, so that they would be passed over in silence.
    """
    found, files = _stems(masks), visible_images(images)
    if files and found and not any(_mask(path, found) for path in files):
        raise KitError(
            f"no mask in {masks} is called as an image in {images} (as STEM, STEM_mask, STEM_label, "
            "STEM_gt or STEM_seg); rename the masks."
        )
    return found


def _stems(folder: Path | None) -> dict[str, Path]:
    return {path.stem: path for path in visible_images(folder)} if folder else {}


def _beside(files: list[Path]) -> dict[str, Path]:
    """The masks among images: STEM_mask, STEM_label, STEM_gt or STEM_seg beside STEM."""
    stems = {path.stem for path in files}
    return {
        path.stem: path
        for path in files
        if any(path.stem.removesuffix(end) in stems - {path.stem} for end in ENDINGS)
    }


def _mask(image: Path, found: dict[str, Path]) -> Path | None:
    return next((found[image.stem + end] for end in ENDINGS if image.stem + end in found), None)
