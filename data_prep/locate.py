"""Where, in what a user has, the root of a dataset's raw download is: in a folder, or in archives."""

import hashlib
import os
from pathlib import Path

from data_prep.archives import unpack
from data_prep.registry import DATASETS, Dataset
from fap_lib.core import arguments, paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".7z", ".rar")
_DEPTH = 8  # how far below the given folder a download is looked for


def downloads(entry: Dataset) -> Path:
    """Where the archives of a dataset are downloaded to and unpacked."""
    return paths.data() / "downloads" / entry.name


def raw_root(entry: Dataset, source: Path) -> Path:
    """The root of a raw download: `source`, a folder a few levels below it, or in an archive it is or holds.

    Doubled folders and renamed roots do not matter. Archives in a folder are recognised by their published
    names; other archives must be named themselves.

    Raises:
        KitError: nothing there is the dataset; an archive is damaged or not the published one.
    """
    source = arguments.source(source)
    if source.is_dir():
        root = _search(entry, source) or _search(entry, source, partial=True)
        if root is not None:
            return root
        archives = _archives(entry, source)
    else:
        archives = sorted({source, *(_archives(entry, source.parent) if len(entry.archives) > 1 else ())})
    root = _search(entry, _unpacked(entry, archives)) if archives else None
    if root is None:
        names = " and ".join(archive.name for archive in entry.archives)
        raise KitError(
            f"{source} does not hold the raw download of {entry.name} ({entry.raw})"
            + (f", nor all of {names}" if names else "")
            + f"; get it from {entry.source} (`fap data show {entry.name}` says how) and give its folder "
            "or archive."
        )
    return root


def _search(entry: Dataset, source: Path, partial: bool = False) -> Path | None:
    """The root of a download in or below `source`. partial: one that has few of its categories will do, if
    the user points at it or it has the dataset's name."""
    level, pointed = [source], source
    for _ in range(_DEPTH):
        found = [folder for folder in level if _has_signs(entry, folder, partial)]
        if partial:
            found = [folder for folder in found if folder == pointed or entry.name in folder.name.lower()]
        for folder in found:
            if entry.named in folder.name.lower():
                return folder
        # Under another name it counts only where it is alone, and meant.
        if len(found) == 1 and _is_meant(entry, found[0].relative_to(source.parent), found[0] == pointed):
            return found[0]
        level = [child for folder in level for child in _children(folder)]
        if len(level) == 1:
            pointed = level[0]
    return None


def _is_meant(entry: Dataset, path: Path, pointed: bool) -> bool:
    """Whether a root without the dataset's name is the dataset: the user points at it, or a folder above it
    has the name; and no other dataset's name is there."""
    text = path.as_posix().lower()
    rivals = {other.named for other in DATASETS.values() if other.named not in ("", entry.named)}
    return (pointed or entry.named in text) and not any(name in text for name in rivals)


def _children(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; none where the kit prepared it or it cannot be read."""
    try:
        with os.scandir(folder) as items:
            found = {item.name: item.is_dir() for item in items}
    except OSError:
        return []
    names = [
        name for name, is_folder in found.items() if is_folder and not name.startswith((".", "__MACOSX"))
    ]
    return [] if "dataset.json" in found else [folder / name for name in sorted(names)]


def _has_signs(entry: Dataset, folder: Path, partial: bool) -> bool:
    if (folder / "dataset.json").is_file():
        return False
    if entry.signs:
        return any(all(any(folder.glob(sign)) for sign in signs) for signs in entry.signs)
    there = [
        name for name in entry.categories if any((folder / name / test).is_dir() for test in ("test", "Test"))
    ]
    return bool(there) if partial else 2 * len(there) > len(entry.categories)


def _archives(entry: Dataset, folder: Path) -> list[Path]:
    """The files of a folder that have the names of the dataset's archives; in its own download folder, all
    that look like archives."""
    names = {archive.name.lower() for archive in entry.archives}
    own = folder == downloads(entry)
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and (path.name.lower() in names or (own and path.suffix.lower() in _ARCHIVES))
    )


def _unpacked(entry: Dataset, archives: list[Path]) -> Path:
    """A folder that holds these archives unpacked, each in a folder of its name."""
    digests = [sha256(path) for path in archives]
    known = {archive.name.lower(): archive.sha256 for archive in entry.archives}
    for path, digest in zip(archives, digests, strict=True):
        if known.get(path.name.lower()) not in (None, digest):
            raise KitError(
                f"{path} is not the published {path.name} (its SHA-256 differs): damaged, or another "
                "version; fetch it again, or, if you trust it, unpack it yourself and give the folder."
            )
    # Other archives get another folder: what an earlier preparation refers to stays.
    folder = downloads(entry) / hashlib.sha256("".join(digests).encode()).hexdigest()[:12]
    for path in archives:
        unpack(path, folder / path.name.split(".")[0])
    return folder
