"""Datasets as lists of records, in the `meta.json` that AnomalyCLIP-style code reads.

A prepared dataset is a folder with `meta.json` (images, masks, categories) and, when the kit wrote
it, `dataset.json` (its name and how its masks are read). All paths are relative to that folder.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from fap_lib.core import arguments
from fap_lib.core.errors import SHOWN, KitError, shown
from fap_lib.core.files import (
    as_json,
    parse_json,
    read_json,
    read_lines,
    read_text,
    write_json,
    write_text,
)

DIGEST = "digest"
"""The entry of `dataset.json` that `meta.json` is checked against."""

Split = Literal["train", "test"]
MaskRule = Literal["nonzero", "half"]
"""How a grey mask becomes binary: `nonzero` is > 0 (the official loader), `half` is > 127 (for masks
stored as JPEG, whose noise would otherwise count as anomalous)."""


@dataclass(frozen=True)
class Record:
    """One image of a dataset.

    `label` is 0 (normal), 1 (anomalous) or None (unknown); `mask` is None for normal images and where
    no mask exists; `defect` is `good` for normal images.
    """

    image: str
    mask: str | None
    category: str
    defect: str
    label: int | None


DETAILS = "manifest.jsonl"
"""In a dataset the kit prepared, one line an image: its record, and what its files are (size, hash)."""

_COMPARED = ("mask", "category", "defect", "label")


@dataclass(frozen=True)
class Manifest:
    """A prepared dataset: where it lies, how its masks are read, and its records per split.

    faults: why a split cannot be used, for splits of a manifest made elsewhere; said when one is asked for.
    notes: what of such a manifest is not used. generated: drawn by the kit, no photographs.
    """

    root: Path
    name: str
    mask_rule: MaskRule
    splits: dict[Split, list[Record]]
    faults: dict[Split, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    generated: bool = False

    def records(self, split: Split) -> list[Record]:
        """Records of one split, in manifest order.

        Raises:
            KitError: the split is empty, absent or malformed.
        """
        if split in self.faults:
            raise KitError(self.faults[split])
        records = self.splits.get(split, [])
        if not records:
            raise KitError(f"the dataset {self.name} in {self.root} has no images in its {split} split.")
        return records

    def stamp(self, record: Record) -> tuple[int, int, int, int]:
        """Size and modification time of an image and of its mask (zeros without one).

        Raises:
            KitError: a file is missing.
        """
        image = _stat(self.root / record.image, "image")
        return (*image, *(_stat(self.root / record.mask, "mask") if record.mask else (0, 0)))


def _stat(path: Path, what: str) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise KitError(
            f"the {what} {path} is listed in the manifest but cannot be found; restore it, or prepare the "
            "dataset again."
        ) from error
    return status.st_size, status.st_mtime_ns


def read_manifest(root: Path) -> Manifest:
    """Read the prepared dataset in folder `root`.

    Manifests made elsewhere are read with some tolerance: `Train` for `train`, other parts (`val`) are left
    out, a label may be true or 1.0, and a fault in one split is said only when that split is asked for.

    Without a `dataset.json` (a manifest made elsewhere) the folder's name is the dataset's name and
    masks are read as the official loader reads them (`nonzero`).

    Raises:
        KitError: a file is missing or malformed; `meta.json` is not what the kit wrote (it was edited, or
            is damaged). The message names the entry.
    """
    root = arguments.place(root)
    path = root / "meta.json"
    if not path.is_file():
        raise KitError(
            f"there is no manifest at {path}; prepare the dataset with `fap data prepare`, "
            "or give the folder that holds its meta.json."
        )
    text = read_text(path, "manifest")
    content = parse_json(text, path, "manifest")
    parts: dict[Split, Any] = {}
    for key, value in content.items() if isinstance(content, dict) else ():
        split = next((known for known in get_args(Split) if known == key.lower()), None)
        if split in parts:
            raise KitError(f"the manifest {path} has the part {split!r} twice, in other cases; remove one.")
        if split is not None:
            parts[split] = value
    if not parts:
        raise KitError(f"the manifest {path} must be an object with the keys 'train' and 'test'.")
    notes = tuple(
        f"the part {key!r} of {path.name} is not used" for key in content if key.lower() not in parts
    )
    splits: dict[Split, list[Record]] = {}
    faults: dict[Split, str] = {}
    for split, categories in parts.items():
        try:
            splits[split] = list(_records(path, split, categories))
        except KitError as error:
            faults[split] = str(error)
    if len(faults) == len(parts):
        raise KitError(next(iter(faults.values())))

    name: str = root.name
    rule: MaskRule = "nonzero"
    generated, noted = False, None
    if (root / "dataset.json").is_file():
        about = read_json(root / "dataset.json", "dataset description")
        if not isinstance(about, dict):
            raise KitError(f"the dataset description {root / 'dataset.json'} must be an object.")
        name = arguments.name(about.get("name", name), "dataset's name")
        rule = about.get("mask_rule", rule)
        generated = "draw" in about
        noted = about.get(DIGEST)
    if rule not in get_args(MaskRule):
        known = ", ".join(get_args(MaskRule))
        raise KitError(f"{root / 'dataset.json'} names the mask rule {rule!r}; known rules: {known}.")
    if (root / DETAILS).is_file():
        _check_unedited(root, splits)
    if noted not in (None, digest(name, rule, text)):
        raise KitError(
            f"{path} or dataset.json beside it has changed since the dataset was prepared, so labels and "
            f"masks may be wrong; prepare it again (or, if you mean it, delete {DIGEST!r} in dataset.json)."
        )
    return Manifest(root, name, rule, splits, faults, notes, generated)


def _check_unedited(root: Path, splits: dict[Split, list[Record]]) -> None:
    """Compare `meta.json` with the lines the kit wrote beside it.

    Raises:
        KitError: an image is missing, new, or has another label, mask, category or defect.
    """
    meta = root / "meta.json"
    advice = f"prepare the dataset again, or, if the change is meant, remove {DETAILS}"
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for number, row in enumerate(read_lines(root / DETAILS, "details"), 1):
        split, image = row.get("split"), row.get("image")
        if not isinstance(split, str) or not isinstance(image, str):
            raise KitError(f"{root / DETAILS} is damaged: line {number} names no image; {advice}.")
        told[split, image] = row
    for split, records in splits.items():
        for record in records:
            if (split, record.image) not in told:
                raise KitError(f"{meta} lists {record.image}, which {DETAILS} does not; {advice}.")
            row = told.pop((split, record.image))
            for name in _COMPARED:
                if (found := asdict(record)[name]) != row.get(name):
                    raise KitError(
                        f"{meta} says of {record.image} that its {name} is {found!r}, and {DETAILS} that it "
                        f"is {row.get(name)!r}; {advice}."
                    )
    lost = [image for split, image in told if split in splits]
    if lost:
        raise KitError(f"{meta} lacks {lost[0]}, which {DETAILS} lists; {advice}.")


def write_manifest(manifest: Manifest, about: dict[str, Any]) -> None:
    """Write `dataset.json` (name, mask rule and the facts in `about`), then `meta.json`, each atomically."""
    splits: dict[str, dict[str, list[dict[str, Any]]]] = {"train": {}, "test": {}}
    for split, records in manifest.splits.items():
        for record in records:
            splits[split].setdefault(record.category, []).append(
                {
                    "img_path": record.image,
                    "mask_path": record.mask or "",
                    "cls_name": record.category,
                    "specie_name": record.defect,
                    "anomaly": record.label,
                }
            )
    text = as_json(splits)
    known = {"name": manifest.name, "mask_rule": manifest.mask_rule}
    # `meta.json` is what makes a folder a dataset, so it comes last: it is never read without its mask rule.
    write_json(
        manifest.root / "dataset.json",
        {**known, DIGEST: digest(manifest.name, manifest.mask_rule, text), **about},
    )
    write_text(manifest.root / "meta.json", text)


def digest(name: str, rule: str, text: str) -> str:
    """SHA-256 of what a prepared dataset must not change in silence: name, mask rule, text of `meta.json`."""
    return hashlib.sha256(json.dumps([name, rule, text]).encode()).hexdigest()


def _records(path: Path, split: str, categories: Any) -> Iterable[Record]:
    if not isinstance(categories, dict):
        raise KitError(f"in {path}, '{split}' must map each category to a list of images.")
    for category, entries in categories.items():
        if not _is_word(category):
            raise KitError(
                f"in {path}, '{split}' names a category {shown(category)}; it must be a short text."
            )
        if not isinstance(entries, list):
            raise KitError(f"in {path}, '{split}' / '{category}' must be a list of images.")
        for index, entry in enumerate(entries):
            yield _record(f"{path}, '{split}' / '{category}', entry {index}", category, entry)


def _is_word(value: Any) -> bool:
    """Whether a value can name a category or a defect."""
    return isinstance(value, str) and 0 < len(value) <= SHOWN and value.isprintable()


def _is_path(value: Any) -> bool:
    """Whether a value is a path that stays in the dataset's folder."""
    if not isinstance(value, str) or not value or len(value) > 4000 or not value.isprintable():
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts


def _record(where: str, category: str, entry: Any) -> Record:
    if not isinstance(entry, dict):
        raise KitError(f"{where}: must be an object.")
    missing = [key for key in ("img_path", "anomaly") if key not in entry]
    if missing:
        raise KitError(f"{where}: the key {missing[0]!r} is missing.")
    image, mask, label = entry["img_path"], entry.get("mask_path"), entry["anomaly"]
    if not _is_path(image):
        raise KitError(
            f"{where}: 'img_path' must be a file path below the dataset's folder, found {shown(image)}."
        )
    if not (mask is None or mask == "" or _is_path(mask)):
        raise KitError(
            f"{where}: 'mask_path' must be a file path or empty, found {shown(mask)}; a path must lie below "
            "the dataset's folder."
        )
    if isinstance(label, bool | float) and label in (0, 1):
        label = int(label)  # true and 1.0 say what 1 says
    if not (label is None or (type(label) is int and label in (0, 1))):
        raise KitError(f"{where}: 'anomaly' must be 0, 1 or null, found {shown(label)}.")
    defect = entry.get("specie_name") or ("defect" if label else "good")
    if not _is_word(defect):
        raise KitError(f"{where}: 'specie_name' must be a short text, found {shown(defect)}.")
    return Record(image, mask or None if label else None, category, defect, label)
