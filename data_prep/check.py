"""What the files of a dataset are, against what they should be."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.registry import DATASETS, Dataset
from data_prep.workers import each
from fap_lib.errors import KitError
from fap_lib.files import read_lines, sha256
from fap_lib.images import binarise, opened
from fap_lib.manifest import Manifest, MaskRule, Record, Split

DETAILS = "manifest.jsonl"
"""One line an image: its record and its `Facts`."""

TINY = 16  # pixels; smaller images hardly fill a patch
_SOFT = 0.01  # share of a mask's pixels between its two rules
_ROTATION = 0x0112  # EXIF orientation; 1 is upright
_WIDE_MODES = ("I", "F")  # more than 16 bits: no agreed range, so conversion to RGB would clip


@dataclass(frozen=True)
class Facts:
    """What one image and its mask are. anomalous: mask pixels per rule. problem: why it cannot be used.
    notes: what a user should know. Fields are None where a file could not be read or does not exist."""

    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    mask_sha256: str | None = None
    anomalous: dict[MaskRule, int] | None = None
    problem: str | None = None
    notes: tuple[str, ...] = ()


def inspect(root: Path, record: Record) -> Facts:
    """Decode and hash an image of the dataset in `root`, and its mask."""
    try:
        facts = _image(root / record.image)
        return facts if record.mask is None else _with_mask(facts, root / record.image, root / record.mask)
    except KitError as error:
        return Facts(problem=str(error))


def survey(manifest: Manifest) -> list[tuple[Split, Record, Facts]]:
    """`inspect` of every record, in parallel."""
    records = [(split, record) for split, records in manifest.splits.items() for record in records]
    found = each(
        partial(inspect, manifest.root), [record for _, record in records], f"checking {manifest.name}"
    )
    return [(split, record, facts) for (split, record), facts in zip(records, found, strict=True)]


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
    notes = facts.notes
    if 0 < anomalous["half"] < (1 - _SOFT) * anomalous["nonzero"]:
        notes += ("has a mask with soft edges (grey pixels), so that its rule matters",)
    return replace(facts, mask_sha256=sha256(path), anomalous=anomalous, notes=notes)


def line(split: Split, record: Record, facts: Facts, rule: MaskRule) -> dict[str, Any]:
    """An image's line of `manifest.jsonl`."""
    content = asdict(facts)
    for key in ("problem", "notes", "anomalous"):
        del content[key]
    pixels = facts.anomalous[rule] if facts.anomalous else None
    return {"split": split, **asdict(record), **content, "anomalous_pixels": pixels}


@dataclass(frozen=True)
class Row:
    """One count: expected is None where no source states it."""

    what: str
    expected: int | None
    found: int

    @property
    def differs(self) -> bool:
        return self.expected is not None and self.expected != self.found


@dataclass(frozen=True)
class Report:
    """The result of a check: counts, what is wrong, what is worth knowing."""

    rows: list[Row]
    problems: list[str]
    notes: list[str]

    @property
    def passed(self) -> bool:
        return not self.problems and not any(row.differs for row in self.rows)


def check(manifest: Manifest) -> Report:
    """Check a prepared dataset: counts against the registry if it is there, every file, hashes against those
    of its preparation, empty masks, duplicates."""
    found = survey(manifest)
    problems = [facts.problem for _, _, facts in found if facts.problem]
    for _, record, facts in found:
        if facts.anomalous is not None and not facts.anomalous[manifest.mask_rule]:
            problems.append(f"the mask of the anomalous image {manifest.root / record.image} is empty.")
    problems += _changed(manifest, found)
    return Report(counts(manifest, DATASETS.get(manifest.name)), problems, _notes(found))


def counts(manifest: Manifest, entry: Dataset | None) -> list[Row]:
    """Images per category and label, and their sums, beside what the registry expects."""
    test = manifest.splits.get("test", [])
    found = Counter((record.category, record.label) for record in test)
    rows = []
    for category in dict.fromkeys(
        [*(entry.categories if entry else ()), *(record.category for record in test)]
    ):
        expected = entry.counts.get(category, (0, 0)) if entry else None
        for label, word in enumerate(("normal", "anomalous")):
            rows.append(Row(f"{category}, {word}", expected and expected[label], found[category, label]))
        if found[category, None]:
            rows.append(Row(f"{category}, unlabelled", 0 if entry else None, found[category, None]))
    for label, word in enumerate(("normal", "anomalous")):
        total = sum(record.label == label for record in test)
        rows.append(Row(f"all test images, {word}", entry.total[label] if entry else None, total))
    rows.append(Row("train images", entry.train if entry else None, len(manifest.splits.get("train", []))))
    return rows


def table(rows: list[Row]) -> str:
    """Counts as lines of text, differences marked."""
    width = max(len(row.what) for row in rows)
    lines = [f"{'':{width}}  expected     found"]
    for row in rows:
        expected = "?" if row.expected is None else str(row.expected)
        lines.append(f"{row.what:{width}}  {expected:>8}  {row.found:>8}{'  differs' if row.differs else ''}")
    return "\n".join(lines)


def _changed(manifest: Manifest, found: list[tuple[Split, Record, Facts]]) -> list[str]:
    """Files that are not what they were when the dataset was prepared."""
    path = manifest.root / DETAILS
    if not path.is_file():
        return []
    was = {
        (row.get("image"), key): row.get(key)
        for row in read_lines(path, "details")
        for key in ("sha256", "mask_sha256")
    }
    return [
        f"{manifest.root / name} has changed since the dataset was prepared; prepare it again."
        for _, record, facts in found
        if not facts.problem
        for name, key, now in (
            (record.image, "sha256", facts.sha256),
            (record.mask, "mask_sha256", facts.mask_sha256),
        )
        if name and was.get((record.image, key)) != now
    ]


def _notes(found: list[tuple[Split, Record, Facts]]) -> list[str]:
    """Each kind of remark once, with its first image and how many it holds for; then duplicates."""
    having = defaultdict(list)
    for _, record, facts in found:
        for note in facts.notes:
            having[note].append(record.image)
    notes = [f"{images[0]} {note}" + _others(len(images)) for note, images in having.items()]
    same = defaultdict(list)
    for split, record, facts in found:
        if facts.sha256:
            same[facts.sha256].append((split, record))
    twice = [group for group in same.values() if len(group) > 1]
    for kind, differ in (
        ("normal and as anomalous", lambda group: len({record.label for _, record in group}) > 1),
        ("train and as test", lambda group: len({split for split, _ in group}) > 1),
    ):
        both = [group for group in twice if differ(group)]
        if both:
            notes.append(f"{both[0][0][1].image} is there as {kind} image" + _others(len(both)))
    if twice:
        pair = " and ".join(record.image for _, record in twice[0][:2])
        notes.append(f"{pair} are equal" + _others(len(twice), "contents that occur more than once"))
    return notes


def _others(count: int, what: str = "images") -> str:
    return f" ({count} such {what})." if count > 1 else "."
