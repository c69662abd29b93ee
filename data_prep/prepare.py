"""From a raw download to a prepared dataset: a folder that is whole or absent.

It holds `meta.json` (what the official loader reads), `dataset.json` (what the dataset is, and under which
terms), `manifest.jsonl` (every image with hashes and sizes) and a link to the raw files, or, where the
protocol cuts them, the pieces.
"""

import datetime
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.check import Row, counts, survey, table
from data_prep.download import Via, fetch
from data_prep.facts import line
from data_prep.layouts import Splits
from data_prep.locate import downloads, raw_root
from data_prep.registry import Dataset, find
from fap_lib.core import arguments, paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import read_json, whole_folder, write_lines
from fap_lib.data.manifest import DETAILS, Manifest, MaskRule, Record, read_manifest, write_manifest

RAW = "raw"
"""Name of the link, in a prepared dataset, to the raw files; nothing is copied."""


def prepare(
    name: str, source: Path | None = None, destination: Path | None = None, via: Via | None = None
) -> Manifest:
    """Prepare a dataset from a raw download.

    Args:
        source: the download: its folder, a folder that holds it, or its archive; None downloads it.
        destination: the prepared folder; by default `paths.data()/NAME`.
        via: how to download, see `download.fetch`.

    The terms are shown on stderr before the first use and recorded. Every image and mask is decoded and
    hashed, so a truncated file is found here and not in the middle of a run. Counts that differ from the
    protocol's are shown on stderr and recorded; the dataset is usable.

    Raises:
        KitError: unknown dataset, no such download in `source`, a file that is missing or unreadable, a
            mask of another size, a destination that cannot be written or holds something else.
    """
    entry = find(name)
    folder = arguments.new_folder(destination or paths.data() / entry.name)
    refuse_other(folder, entry.name)
    if source is None:
        terms = _show_terms(entry, folder)
        root = raw_root(entry, fetch(entry, downloads(entry), via))
    else:
        root = raw_root(entry, source)
        terms = _show_terms(entry, folder)

    with whole_folder(folder) as new:
        if entry.cut:
            splits = entry.cut(root, entry.categories, new)
        else:
            assert entry.layout is not None
            splits = link(new, root, entry.layout(root, entry.categories))
        rows = counts(Manifest(new, entry.name, entry.mask_rule, splits), entry)
        different = [row for row in rows if row.differs]
        about = {
            "title": entry.title,
            "source": entry.source,
            **terms,
            "citation": entry.citation,
            "protocol": entry.protocol,
            "raw": str(root),
            "as_expected": not different,
            "counts": {row.what: {"expected": row.expected, "found": row.found} for row in rows},
        }
        store(new, entry.name, entry.mask_rule, splits, about)
    if different:
        print(_differences(entry, splits, different), file=sys.stderr)
    return read_manifest(folder)


def _differences(entry: Dataset, splits: Splits, rows: list[Row]) -> str:
    """What is not as the protocol says: the categories that are missing as a whole, then other counts."""
    there = {record.category for records in splits.values() for record in records}
    missing = [category for category in entry.categories if category not in there]
    if missing:
        rows = [row for row in rows if not row.what.startswith(tuple(f"{name}, " for name in missing))]
    lacks = f"; it lacks {len(missing)} of {len(entry.categories)} categories: {', '.join(missing)}"
    return f"note: {entry.name} is not as its protocol says{lacks if missing else ''}\n{table(rows)}"


def refuse_other(folder: Path, name: str) -> None:
    """Refuse to replace anything but an earlier preparation of the same dataset.

    Raises:
        KitError: `folder` holds something else.
    """
    same = _about(folder).get("name") == name
    if folder.exists() and not same and (not folder.is_dir() or any(folder.iterdir())):
        raise KitError(f"{folder} is there and is not {name}; choose another destination or remove it.")


def link(folder: Path, root: Path, splits: Splits) -> Splits:
    """Make `folder/raw` point to `root`; the records with paths through it."""
    (folder / RAW).symlink_to(root, target_is_directory=True)

    def through(record: Record) -> Record:
        return replace(
            record, image=f"{RAW}/{record.image}", mask=f"{RAW}/{record.mask}" if record.mask else None
        )

    return {split: [through(record) for record in records] for split, records in splits.items()}


def store(folder: Path, name: str, rule: MaskRule | None, splits: Splits, about: dict[str, Any]) -> None:
    """Examine every file of the dataset in `folder`, then write its three descriptions, `meta.json` last.

    Args:
        rule: how masks are read; None chooses by looking at them.

    Raises:
        KitError: an image or mask that cannot be used, or no images at all.
    """
    found = survey(Manifest(folder, name, rule or "nonzero", splits))
    if not found:
        raise KitError(f"{name} has no images; the download is not complete or not unpacked.")
    problems = [facts.problem for _, _, facts in found if facts.problem]
    if problems:
        more = f" ({len(problems)} images of {name} have problems, this is the first)" if problems[1:] else ""
        # The user knows the files by their own place, not by the link in a folder that is about to vanish.
        raise KitError(problems[0].replace(str(folder / RAW), str((folder / RAW).resolve())) + more)
    rule = rule or rule_of([facts.anomalous for _, _, facts in found if facts.anomalous])
    write_lines(folder / DETAILS, (line(split, record, facts, rule) for split, record, facts in found))
    write_manifest(Manifest(folder, name, rule, splits), about)


def _about(folder: Path) -> dict[str, Any]:
    """The description of an earlier preparation in `folder`; empty if there is none."""
    path = folder / "dataset.json"
    content = read_json(path, "dataset description") if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def rule_of(masks: Sequence[dict[MaskRule, int]]) -> MaskRule:
    """How masks are meant to be read, by the anomalous pixels of each under either rule.

    `half` where masks have grey pixels below half beside pixels above it, as JPEG noise and soft edges are.
    `nonzero` for plain masks and class numbers: where some mask would be empty under `half`, it is taken for
    noise alone only if all brighter masks are noisy too.
    """
    bright = [pixels for pixels in masks if pixels["half"]]
    dark = any(pixels["nonzero"] for pixels in masks if not pixels["half"])
    grey = [pixels["half"] < pixels["nonzero"] for pixels in bright]
    return "half" if any(grey) and (not dark or all(grey)) else "nonzero"


def _show_terms(entry: Dataset, folder: Path) -> dict[str, str]:
    """Show the terms unless they were shown before; what to record of it."""
    before = _about(folder)
    if before.get("terms") == entry.terms and "terms_shown" in before:
        return {"terms": entry.terms, "terms_shown": before["terms_shown"]}
    print(f"terms of {entry.name}: {entry.terms}. Cite: {entry.citation}. ({entry.source})", file=sys.stderr)
    return {"terms": entry.terms, "terms_shown": datetime.date.today().isoformat()}
