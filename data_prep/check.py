"""What the files of a dataset are, against what they should be."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_prep.facts import LEVELS, Facts, inspect
from data_prep.registry import DATASETS, Dataset
from data_prep.workers import each
from fap_lib.core.files import read_lines
from fap_lib.data.manifest import DETAILS, Manifest, Record, Split


def survey(manifest: Manifest) -> list[tuple[Split, Record, Facts]]:
    """`inspect` of every record, in parallel."""
    records = [(split, record) for split, records in manifest.splits.items() for record in records]
    found = each(
        partial(inspect, manifest.root), [record for _, record in records], f"checking {manifest.name}"
    )
    return [(split, record, facts) for (split, record), facts in zip(records, found, strict=True)]


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
    problems += manifest.faults.values()
    notes = [*(f"{note}." for note in manifest.notes), *_notes(found)]
    return Report(counts(manifest, DATASETS.get(manifest.name)), problems, notes)


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
    odd = [facts.levels for _, _, facts in found if facts.levels]
    if odd:
        sums = np.sum(odd, axis=0)
        ends = [*(start - 1 for start in LEVELS[1:]), 255]
        shares = [
            f"{start if start == end else f'{start} to {end}'}: {share:.2%}"
            for start, end, share in zip(LEVELS, ends, sums / sums.sum(), strict=True)
        ]
        notes.append(f"values of the {len(odd)} masks that have more than two: {', '.join(shares)}.")
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
