"""Protocols that cut the raw images into pieces (SDD, AITEX): from the raw root to files and their records.

The pieces are named and sorted as in the official converters, but the split does not depend on the order
of the file system, as it does there: the counts are equal, the drawn normal pieces are not.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

from data_prep.layouts import Splits, by_stem, folders, held_out, image_files, part
from data_prep.strips import Box, Strip
from fap_lib.core.errors import KitError
from fap_lib.data.manifest import Record, Split

Cut = Callable[[Path, tuple[str, ...], Path], Splits]

AITEX_DEFECTS = {
    "002": "Broken_end",
    "006": "Broken_yarn",
    "010": "Broken_pick",
    "016": "Weft_curling",
    "019": "Fuzzyball",
    "022": "Cut_selvage",
    "023": "Crease",
    "025": "Warp_ball",
    "027": "Knots",
    "029": "Contamination",
    "030": "Nep",
    "036": "Weft_crack",
}
"""The second number of a file name (source: `InCTRL/datasets/preprocess/convert_AITEX.py`)."""


AITEX_WITHOUT_MASK = "0100_025_08"


def sdd(root: Path, categories: tuple[str, ...], folder: Path) -> Splits:
    """KolektorSDD: each image in three thirds from top to bottom; a third is anomalous if its label is not
    empty. A quarter of the normal thirds is tested."""
    strips = []
    for item in folders(root):
        if not item.name.startswith("kos"):
            continue
        files = by_stem(item)
        for stem, image in files.items():
            if stem.endswith("_label"):
                continue
            if f"{stem}_label" not in files:
                raise KitError(f"the image {image} has no label {stem}_label.bmp; fetch the dataset again.")
            strips.append(
                Strip(image, (files[f"{stem}_label"],), f"{item.name}_{stem}", "defect", True, _thirds)
            )
    return _cut(strips, categories[0], folder)


def aitex(root: Path, categories: tuple[str, ...], folder: Path) -> Splits:
    """AITEX: strips in squares of their height. Of defective strips only the squares with anomalous pixels
    are taken; a quarter of the squares of normal strips is tested.

    Two strips have their mask in two files, `_mask1` and `_mask2`, which are united. The one published
    without any (`AITEX_WITHOUT_MASK`) says nothing about its squares and is left out.
    """
    normal = part(root, "NODefect_images")
    strips = [
        Strip(image, (), f"{fabric.name}_{image.stem}", "good", True, _squares)
        for fabric in folders(normal)
        for image in image_files(fabric)
    ]
    masks = by_stem(part(root, "Mask_images"))
    for stem, image in by_stem(part(root, "Defect_images")).items():
        code = [*stem.split("_"), ""][1]
        if code not in AITEX_DEFECTS:
            raise KitError(f"the name of {image} has no known defect number; expected NNNN_DDD_FF.png.")
        own = tuple(masks[name] for name in (f"{stem}_mask{n}" for n in ("", 1, 2)) if name in masks)
        if not own and stem != AITEX_WITHOUT_MASK:
            raise KitError(f"the image {image} has no mask {stem}_mask.png; fetch the dataset again.")
        if own:
            strips.append(Strip(image, own, stem, AITEX_DEFECTS[code], False, _squares))
    return _cut(strips, categories[0], folder)


def _thirds(width: int, height: int) -> list[Box]:
    rows = [0, height // 3, height * 2 // 3, height]
    return [(0, top, width, bottom) for top, bottom in pairwise(rows)]


def _squares(width: int, height: int) -> list[Box]:
    return [(left, 0, min(left + height, width), height) for left in range(0, width, height)]


def _cut(strips: list[Strip], category: str, folder: Path) -> Splits:
    """Cut the strips into `folder/CATEGORY/{train/good,test/DEFECT,ground_truth/DEFECT}`."""
    # Not at the top: these load what opens images, and who asks for a dataset's name opens none.
    from data_prep.pieces import anomalous, save
    from data_prep.workers import each

    marked = list(each(anomalous, strips, f"reading {category}"))
    normal = [
        (strip, index)
        for strip, flags in zip(strips, marked, strict=True)
        if strip.others_normal
        for index, flag in enumerate(flags)
        if not flag
    ]
    tested = {normal[number] for number in held_out(len(normal))}
    jobs = []
    splits: Splits = {"train": [], "test": []}
    for strip, flags in zip(strips, marked, strict=True):
        pieces = []
        for index, flag in enumerate(flags):
            name = f"{strip.name}_{index}"
            if flag:
                mask = f"{category}/ground_truth/{strip.defect}/{name}_mask.png"
                record = Record(f"{category}/test/{strip.defect}/{name}.png", mask, category, strip.defect, 1)
                splits["test"].append(record)
            elif strip.others_normal:
                split: Split = "test" if (strip, index) in tested else "train"
                record = Record(f"{category}/{split}/good/{name}.png", None, category, "good", 0)
                splits[split].append(record)
            else:
                continue
            pieces.append((index, record))
        jobs.append((strip, pieces))
    for _ in each(partial(save, folder), jobs, f"cutting {category}"):
        pass
    return splits
