"""A folder of one's own as a dataset: with or without labels and masks, MVTec-like or not.

`tree.py` says what each file is by its path; here masks are opened, for the labels that only they know.
"""

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep import tree
from data_prep.mini.sets import is_generated
from data_prep.prepare import RAW, refuse_other, rule_of, store
from data_prep.registry import DATASETS
from fap_lib.core import arguments, paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic, whole_folder
from fap_lib.data.images import binarise, mask_values, open_image
from fap_lib.data.manifest import Manifest, MaskRule, Record, Split, read_manifest

BY_MASK = "anomaly"
"""The kind of images whose mask alone says that they are anomalous."""

UNKNOWN = "unknown"
"""The kind of images that nothing says anything about."""

_NAMED = 3  # files that are named of those that are not used for one reason
_PLAIN = 0.9  # share of a mask's pixels that have one of its two most frequent values


@dataclass(frozen=True)
class Understood:
    """A folder's images, each of a kind; how its masks are read; its files that are not used, under why."""

    images: list[tree.Image]
    rule: MaskRule
    unused: dict[str, list[str]]

    def records(self, raw: str, mask: Callable[[tree.Image], str]) -> dict[Split, list[Record]]:
        """Records per split. raw: what stands before an image's path. mask: the path of an image's mask."""
        splits: dict[Split, list[Record]] = {"train": [], "test": []}
        for image in self.images:
            label = {"good": 0, UNKNOWN: None}.get(str(image.kind), 1)
            path = mask(image) if image.masks else None
            splits[image.split].append(Record(raw + image.path, path, image.category, str(image.kind), label))
        return splits


def own(source: Path, name: str | None = None, destination: Path | None = None) -> Manifest:
    """Make a dataset of a folder; the images stay where they are. Masks in several files are united.

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
    understood = understand(source)
    say(understood.unused)
    with whole_folder(folder) as new:
        (new / RAW).symlink_to(source, target_is_directory=True)

        def mask(image: tree.Image) -> str:
            if len(image.masks) == 1:
                return f"{RAW}/{image.masks[0]}"
            place = f"masks/{image.path}.png"
            unite([source / path for path in image.masks], new / place)
            return place

        about = {
            "title": f"own images, {source.name}",
            "raw": str(source),
            "unused": {why: len(names) for why, names in understood.unused.items()},
        }
        store(new, name, None, understood.records(f"{RAW}/", mask), about)
    return read_manifest(folder)


def in_place(root: Path) -> tuple[list[Record], MaskRule]:
    """The test images of a folder where they are, and how its masks are read. A mask in several files is
    united in the cache.

    Raises:
        KitError: as `understand`.
    """
    understood = understand(root)

    def mask(image: tree.Image) -> str:
        if len(image.masks) == 1:
            return image.masks[0]
        parts = [root / path for path in image.masks]
        key = repr([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in parts])
        place = paths.cache() / "masks" / f"{hashlib.sha256(key.encode()).hexdigest()}.png"
        if not place.is_file():
            unite(parts, place)
        return str(place)

    splits = understood.records("", mask)
    trained = {"in train": [record.image for record in splits["train"]]}
    say({**understood.unused, **(trained if splits["train"] else {})})
    return splits["test"], understood.rule


def understand(root: Path) -> Understood:
    """What each file of a folder is, with the kind of each image.

    Raises:
        KitError: no images to test, files that contradict each other, a mask that cannot be read.
    """
    found = tree.account(root, tree.files(root), lambda path: _is_plain(root / path))
    images, rule = _labelled(root, found.images)
    if not any(image.split == "test" for image in images):
        raise KitError(
            f"there are no images to test in {root}; expected images, or subfolders such as good and the "
            "names of defects, or test/good and test/DEFECT."
        )
    return Understood(images, rule, found.unused)


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


def say(unused: dict[str, list[str]]) -> None:
    """Say on stderr which files are not used: for each reason their number and the first names."""
    for why, names in unused.items():
        shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        files = "1 file" if len(names) == 1 else f"{len(names)} files"
        print(f"{files} not used ({why}): {shown}{more}", file=sys.stderr)


def unite(masks: Sequence[Path], target: Path) -> None:
    """Write the union of masks, pixel by pixel their brightest value.

    Raises:
        KitError: a mask that cannot be read, or masks of different sizes.
    """
    with atomic(target) as temporary:
        _union(masks).save(temporary, format="PNG")


def _union(masks: Sequence[Path]) -> Image.Image:
    if len(masks) == 1:
        return open_image(masks[0])
    whole = _grey(open_image(masks[0]))
    for path in masks[1:]:
        values = _grey(open_image(path))
        if values.shape != whole.shape:
            raise KitError(f"{path} and {masks[0]} are masks of one image, but not of one size.")
        whole = np.maximum(whole, values)
    return Image.fromarray(whole)


def _grey(mask: Image.Image) -> np.ndarray:
    """The values of a mask in 8 bits, (H, W); what is above 0, or above half, stays so."""
    if not mask.mode.startswith("I"):
        return mask_values(mask)
    values = np.asarray(mask)
    return np.maximum(values >> 8, values > 0).astype(np.uint8)


def _labelled(root: Path, images: list[tree.Image]) -> tuple[list[tree.Image], MaskRule]:
    """The images with a kind each: where no folder says it, an empty mask means normal, and no mask unknown.

    All masks are read by one rule, which comes with them, as they are when pixels are scored.
    """
    rules: tuple[MaskRule, MaskRule] = ("nonzero", "half")
    counts: dict[str, dict[MaskRule, int]] = {}
    for image in images:
        if image.masks:
            mask = _union([root / path for path in image.masks])
            counts[image.path] = {rule: int(binarise(mask, rule).sum()) for rule in rules}
    rule = rule_of(list(counts.values()))

    def kind(image: tree.Image) -> tree.Image:
        if image.kind is not None:
            return image
        if not image.masks:
            return replace(image, kind=UNKNOWN)
        if counts[image.path][rule]:
            return replace(image, kind=BY_MASK)
        return replace(image, kind="good", masks=())

    return [kind(image) for image in images], rule


def _is_plain(path: Path) -> bool:
    """Whether nearly all pixels have one of two values, black or white among them, as in masks."""
    values, counts = np.unique(_grey(open_image(path)), return_counts=True)
    common = np.argsort(counts)[-2:]
    ends = not {0, 255}.isdisjoint(values[common].tolist())
    return bool(ends and counts[common].sum() >= _PLAIN * counts.sum())
