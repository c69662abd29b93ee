"""What every file of a folder is, by its path alone: an image with its kind and masks, or not used, and why.

The words of a folder's name, in any case, say what it holds:

    train, test, validation                         a part; the last one is not used
    good, ok, normal, nodefect                      normal images
    masks, ground truth, labels, ...                masks
    images, data, ...                               nothing: what lies in it might as well lie beside it
    anything else                                   a category, or a kind of defect

A folder with `good`, `train` or `test` in it is a category, and its other folders are kinds of defects.
Elsewhere images are of no known kind, and each folder of images is a category: only masks can label them.

A mask lies in a folder of masks, in the same category and kind as its image or above the kinds, or beside its
image. It is called as its image, with `_mask`, `_label`, `_gt` or `_seg` behind, or numbered (`_mask1`); or a
folder that is called as the image holds all its masks. Of two files of one name but for the suffix, in one
folder, pixels tell whether one is the mask of the other.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath

from data_prep.layouts import SUFFIXES
from fap_lib.core.errors import KitError
from fap_lib.data.manifest import Split

PARTS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}
GOOD = {"good", "ok", "normal", "nodefect"}
DEFECT = {"defect", "defects", "bad", "ko", "ng", "anomaly", "anomalies", "anomalous", "abnormal"}
MASKS = {
    *("mask", "masks", "gt", "groundtruth", "label", "labels", "annotation", "annotations"),
    *("seg", "segmentation", "segmentations"),
}
IMAGES = {"image", "images", "img", "imgs", "data", "raw", "original", "originals"}
_ROLES = {*PARTS, *GOOD, *DEFECT, *MASKS, *IMAGES}
_SURELY_MASKS = ("masks", "groundtruth", "gt")
"""What a name that has other words too must end with to be a folder of masks."""

_ENDING = re.compile(
    r"(?P<base>.+)[-_ .](mask|label|gt|seg|segmentation|groundtruth|ground_truth)[-_]?(?P<number>\d*)",
    re.IGNORECASE,
)

# Why a file is not used.
NO_IMAGE = "no image"
HIDDEN = "hidden"
VALIDATION = "in a validation part"
BESIDE = "beside train and test"
TRAINED = "in train, but not in good"
OF_NORMAL = "mask of a normal image"
UNPAIRED = "mask of no image"


@dataclass(frozen=True)
class Image:
    """An image: its path, what its folders say, and its masks, whose union is its mask.

    kind: `good`, a kind of defect, or None where only its mask can tell.
    """

    path: str
    split: Split
    category: str
    kind: str | None
    masks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Account:
    """Every file of a folder once: as an image, as the mask of an image, or under why it is not used."""

    images: list[Image]
    unused: dict[str, list[str]]


@dataclass
class _Found:
    """A file that may be an image or a mask, and what its folders say.

    names: its folders without those that only have a role. category: the first of them, if they say where
    the kinds begin. masks: with how each of them was found. why: it is not used.
    """

    path: PurePosixPath
    names: tuple[str, ...]
    category: tuple[str, ...] = ()
    part: str | None = None
    kind: str | None = None
    masks: list[tuple[str, PurePosixPath]] = field(default_factory=list)
    why: str | None = None


def files(root: Path) -> list[PurePosixPath]:
    """All files below a folder, sorted, relative to it. Of hidden folders, only their names.

    Raises:
        KitError: a folder cannot be read.
    """
    found: list[PurePosixPath] = []

    def walk(folder: Path, above: tuple[str, ...]) -> None:
        try:
            items = sorted(folder.iterdir())
            here = (*above, os.path.realpath(folder))
        except OSError as error:
            raise KitError(f"the folder {folder} cannot be read ({error.strerror}).") from error
        for item in items:
            below = PurePosixPath(item.relative_to(root).as_posix())
            if not item.is_dir() or _hidden(below):
                found.append(below)
            elif os.path.realpath(item) not in here:  # a link to a folder above
                walk(item, here)

    walk(root, ())
    return found


def account(root: Path, paths: Iterable[PurePosixPath], is_mask: Callable[[PurePosixPath], bool]) -> Account:
    """What each of the files `paths`, relative to `root`, is. No file is opened here.

    Args:
        is_mask: whether a file has the pixels of a mask; asked of files in one folder that have one stem.

    Raises:
        KitError: two files claim one stem or one image, a folder of masks in which none has an image, or a
            name that cannot be shown.
    """
    unused: dict[str, list[str]] = defaultdict(list)
    outside: list[_Found] = []
    masks: list[_Found] = []
    for path in paths:
        if why := _no_picture(root, path):
            unused[why].append(str(path))
        else:
            (masks if any(map(_is_masks, path.parent.parts)) else outside).append(_read(path))
    images, beside = _apart(root, outside, is_mask)
    _place(images)
    for image, mask, how in beside:
        image.masks.append((str(mask.path), how))
    _pair(root, images, masks)
    for image in images:
        if image.why:
            unused[image.why].append(str(image.path))
        if why := image.why or (OF_NORMAL if image.kind == "good" else None):
            unused[why] += [path for path, _ in image.masks]
            image.masks.clear()
    for mask in masks:
        if mask.why:
            unused[mask.why].append(str(mask.path))
    used = _used(root, [image for image in images if not image.why])
    return Account(used, {why: sorted(names) for why, names in sorted(unused.items()) if names})


def _used(root: Path, found: list[_Found]) -> list[Image]:
    """The images as they are used.

    Raises:
        KitError: two masks of one image that are not parts of one.
    """
    above = zip(*(image.category[:-1] for image in found), strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, above))
    masked = {image.category for image in found if image.part == "train" and image.masks}
    images = []
    for image in found:
        names = sorted(path for path, _ in image.masks)
        if len({how for _, how in image.masks}) > 1:
            raise KitError(f"{names[0]} and {names[1]} in {root} are both masks of {image.path}; remove one.")
        split: Split = "train" if image.part == "train" else "test"
        # A part to train on that has no masks holds normal images.
        kind = "good" if split == "train" and image.category not in masked else image.kind
        category = "/".join(image.category[shared:]) or root.name
        images.append(Image(str(image.path), split, category, kind, tuple(names)))
    return images


def _no_picture(root: Path, path: PurePosixPath) -> str | None:
    """Why a file is neither an image nor a mask, if it is neither.

    Raises:
        KitError: it is one, of a name that cannot be stored in a manifest or shown in a message.
    """
    if _hidden(path):
        return HIDDEN
    if path.suffix.lower() not in SUFFIXES:
        return NO_IMAGE
    if not str(path).isprintable():
        raise KitError(
            f"the file name {path.name!r} in {root} has characters that cannot be printed; rename it."
        )
    return None


def _hidden(path: PurePosixPath) -> bool:
    return any(name.startswith((".", "__MACOSX")) or name == "Thumbs.db" for name in path.parts)


def _words(name: str) -> list[str]:
    plain = " ".join(re.split(r"[\W_]+", name.lower())).strip()
    return plain.replace("ground truth", "groundtruth").replace("no defect", "nodefect").split()


@lru_cache(maxsize=4096)
def _is_masks(name: str) -> bool:
    words = _words(name)
    if _ROLES.issuperset(words):
        return not MASKS.isdisjoint(words)
    return words[-1] in _SURELY_MASKS


@lru_cache(maxsize=4096)
def _part(name: str) -> str | None:
    """The part of a dataset that a folder of this name is, if it is one."""
    words = _words(name)
    return next((PARTS[word] for word in words if word in PARTS and _ROLES.issuperset(words)), None)


@lru_cache(maxsize=4096)
def _name(name: str) -> str | None:
    """What a folder's name says beside its role: `good`, a category or a kind; None if nothing."""
    if _is_masks(name):
        return None
    words = _words(name)
    if not words or not _ROLES.issuperset(words):
        return name
    if not GOOD.isdisjoint(words):
        return "good"
    return next((name if len(words) == 1 else word for word in words if word in DEFECT), None)


def _names(folders: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in map(_name, folders) if name is not None)


def _read(path: PurePosixPath) -> _Found:
    folders = path.parent.parts
    part = next((part for part in map(_part, reversed(folders)) if part), None)
    return _Found(path, _names(folders), part=part)


def _base(stem: str) -> tuple[str, str]:
    """The stem of the image whose mask would be called `stem`, and its number; both as they are if none."""
    match = _ENDING.fullmatch(stem)
    return (match["base"], match["number"]) if match else (stem, "")


def _apart(
    root: Path, found: list[_Found], is_mask: Callable[[PurePosixPath], bool]
) -> tuple[list[_Found], list[tuple[_Found, _Found, PurePosixPath]]]:
    """Images, and the masks beside them, each with its image and how it was found.

    Raises:
        KitError: files of one stem of which one is a mask, but of which image or which of them is not clear.
    """
    stems: dict[tuple[PurePosixPath, str], list[_Found]] = defaultdict(list)
    for file in found:
        stems[file.path.parent, file.path.stem].append(file)
    images: dict[tuple[PurePosixPath, str], list[_Found]] = defaultdict(list)
    masks = []
    for (folder, stem), same in stems.items():
        base, number = _base(stem)
        if base != stem and (folder, base) in stems:
            masks += [((folder, base), file, folder if number else file.path) for file in same]
            continue
        plain = [file for file in same if is_mask(file.path)] if len(same) > 1 else []
        if len(plain) == 2 or (plain and len(same) > 2):
            names = " and ".join(file.path.name for file in same)
            raise KitError(f"{names} in {root / folder} have one stem; which one is a mask? Rename them.")
        images[folder, stem] = [file for file in same if file not in plain]
        masks += [((folder, stem), file, file.path) for file in plain]
    beside = []
    for key, mask, how in masks:
        if len(images[key]) != 1:
            names = " and of ".join(image.path.name for image in images[key]) or "another mask"
            raise KitError(f"{mask.path} in {root} could be a mask of {names}; rename one of them.")
        beside.append((images[key][0], mask, how))
    return [image for same in images.values() for image in same], beside


def _place(images: list[_Found]) -> None:
    """Set each image's category and kind, or why it is not used."""
    divided, parted = set(), set()
    for image in images:
        folders = image.path.parent.parts
        for depth, name in enumerate(folders):
            if _part(name):
                parted.add(folders[:depth])
            if _part(name) or _name(name) == "good":
                divided.add(folders[:depth])
    for image in images:
        folders = image.path.parent.parts
        above = [folders[:depth] for depth in range(len(folders) + 1)]
        head = next((folder for folder in reversed(above) if folder in divided), None)
        image.category = _names(folders if head is None else head)
        rest = image.names[len(image.category) :]
        image.kind = "good" if "good" in rest else rest[0] if rest else None
        if image.part == "validation":
            image.why = VALIDATION
        elif image.part is None and not parted.isdisjoint(above):
            image.why = BESIDE
        elif image.part == "train" and image.kind not in ("good", None):
            image.why = TRAINED


def _pair(root: Path, images: list[_Found], masks: list[_Found]) -> None:
    """Give each mask of a folder of masks to its image, or set why it is not used.

    Raises:
        KitError: a mask fits two images; or none of a folder fits any.
    """
    index: dict[tuple[tuple[str, ...], str], list[_Found]] = defaultdict(list)
    above: dict[tuple[tuple[str, ...], str], list[_Found]] = defaultdict(list)
    for image in images:
        index[_lower(image.names), image.path.stem].append(image)
        parent = image.category if image.kind else image.names[:-1]
        above[_lower(parent), image.path.stem].append(image)
    kinds = {name for image in images for name in _lower(image.names)}
    paired: dict[PurePosixPath, bool] = {}
    for mask in masks:
        for names, stem, how in _keys(mask):
            fitting = _best(mask, index[names, stem] or above[names, stem])
            if len(fitting) > 1:
                raise KitError(
                    f"{mask.path} in {root} fits both {fitting[0].path} and {fitting[1].path}; put "
                    "masks into folders called as those of their images."
                )
            if fitting:
                fitting[0].masks.append((str(mask.path), how))
                break
        else:
            mask.why = VALIDATION if mask.part == "validation" else UNPAIRED
        folder = _folder(mask.path, kinds)
        paired[folder] = paired.get(folder, False) or mask.why != UNPAIRED
    for folder, any_ in paired.items():
        if not any_:
            raise KitError(
                f"no mask in {root / folder} is called as an image (as STEM, STEM_mask, STEM_label, STEM_gt "
                "or STEM_seg); rename the masks, or the folder if they are none."
            )


def _lower(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _keys(mask: _Found) -> Iterable[tuple[tuple[str, ...], str, PurePosixPath]]:
    """Where the image of a mask may be: names of its folders, and its stem; and how it would be found, which
    is the same for masks that are parts of one."""
    names, stem = _lower(mask.names), mask.path.stem
    yield names, stem, mask.path
    base, number = _base(stem)
    yield names, base, mask.path.parent if number else mask.path
    if mask.names:
        for called in (mask.path.parent.name, _base(mask.path.parent.name)[0]):
            yield names[:-1], called, mask.path.parent


def _best(mask: _Found, images: list[_Found]) -> list[_Found]:
    """Of the images a mask may belong to, those of its own part: rather used ones, of the test, anomalous."""
    left = [image for image in images if mask.part in (None, image.part)]
    left = [image for image in left if not image.why] or left
    left = [image for image in left if image.part != "train"] or left
    return [image for image in left if image.kind != "good"] or left


def _folder(path: PurePosixPath, kinds: set[str]) -> PurePosixPath:
    """The folder of masks that a mask is in, with the kind below it if there are several."""
    folders = path.parent.parts
    depth = 1 + max(depth for depth, name in enumerate(folders) if _is_masks(name))
    deeper = depth < len(folders) and folders[depth].lower() in kinds
    return PurePosixPath(*folders[: depth + deeper])
