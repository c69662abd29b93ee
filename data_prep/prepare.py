"""From a raw download to a prepared dataset: `meta.json`, `dataset.json`, and a link to the raw files."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from data_prep.registry import Dataset, find
from fap_lib import paths
from fap_lib.errors import KitError
from fap_lib.files import disk_errors
from fap_lib.images import open_image
from fap_lib.manifest import Manifest, read_manifest, write_manifest
from fap_lib.progress import bar

RAW = "raw"
"""Name of the link, in a prepared dataset, to the raw files; nothing is copied."""

_DEPTH = 6  # how far below the given folder a download is looked for


def prepare(name: str, source: Path, destination: Path | None = None) -> Manifest:
    """Prepare a dataset from a raw download.

    Args:
        source: the download, or a folder that holds it.
        destination: the prepared folder; by default `paths.data()/NAME`.

    Every image and mask is decoded once, so a truncated file is found here and not in the middle of a
    run. A count that differs from the protocol's is said on stderr; the dataset is usable.

    Raises:
        KitError: unknown dataset, no such download in `source`, a file that is missing or unreadable, a
            mask of another size, a destination that cannot be written or holds something else.
    """
    entry = find(name)
    root = locate_raw(entry, Path(source).expanduser().resolve())
    folder = destination or paths.data() / name
    records = entry.layout(root)
    for record in bar(records, f"checking {name}"):
        image = open_image(root / record.image)
        if record.mask is not None and open_image(root / record.mask).size != image.size:
            raise KitError(
                f"the mask {root / record.mask} is not as large as its image {root / record.image}."
            )

    found = tuple(sum(record.label == label for record in records) for label in (0, 1))
    if found != entry.expected:
        print(
            f"note: {name} has {found[0]} normal and {found[1]} anomalous test images here, "
            f"the protocol has {entry.expected[0]} and {entry.expected[1]}.",
            file=sys.stderr,
        )
    _link(folder, root)
    linked = [
        replace(record, image=f"{RAW}/{record.image}", mask=f"{RAW}/{record.mask}" if record.mask else None)
        for record in records
    ]
    manifest = Manifest(folder.resolve(), name, entry.mask_rule, {"test": linked})
    about = {
        "title": entry.title,
        "source": entry.source,
        "terms": entry.terms,
        "citation": entry.citation,
        "protocol": entry.protocol,
        "found": dict(zip(("normal", "anomalous"), found, strict=True)),
        "expected": dict(zip(("normal", "anomalous"), entry.expected, strict=True)),
    }
    write_manifest(manifest, about)
    return read_manifest(folder)


def locate_raw(entry: Dataset, source: Path) -> Path:
    """The root of a raw download: `source`, or a folder a few levels below it.

    Raises:
        KitError: nothing there looks like the dataset.
    """
    if not source.is_dir():
        raise KitError(f"there is no folder {source}; give the folder with the download of {entry.name}.")
    level = [source]
    for _ in range(_DEPTH):
        for folder in level:
            named = folder.name.lower().startswith(entry.folder)
            if named and all((folder / part).exists() for part in entry.holds):
                return folder
        level = [child for folder in level for child in sorted(folder.iterdir()) if child.is_dir()]
    parts = " and ".join(entry.holds)
    raise KitError(
        f"{source} does not hold the raw download of {entry.name} (a folder {entry.folder}* with {parts}); "
        f"get it from {entry.source} and give its folder."
    )


def _link(folder: Path, root: Path) -> None:
    """Make `folder/raw` point to `root`."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / RAW
        if link.is_symlink() or not link.exists():
            temporary = folder / f".{RAW}.new"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(root, target_is_directory=True)
            os.replace(temporary, link)
        elif link.resolve() != root:
            raise KitError(f"{link} is not a link the kit made; choose another destination or remove it.")
