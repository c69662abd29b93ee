"""A reader's own copies of the notebooks (`fap lab`): neither the kit's nor a reader's work is overwritten.

A copy counts as edited when the text of its cells is no longer what was copied. Running it, or opening it in
JupyterLab, edits nothing.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic, read_json
from fap_lib.core.sealed import read_sealed, write_sealed

RECORD = ".copied.json"
"""For each copy a hash of its cells as they were copied, to tell whether someone edited it since."""


@dataclass
class Copies:
    """What `copy_notebooks` did. kept: edited copies that stay. newer: new versions beside such copies."""

    folder: Path
    kept: list[Path] = field(default_factory=list)
    newer: list[Path] = field(default_factory=list)


def copy_notebooks(folder: Path | None = None) -> Copies:
    """Copy the kit's notebooks to `folder` (by default `runs/lab`); nothing that was edited is overwritten.

    An untouched copy follows the kit. Where the kit's notebook changed after its copy was edited, the new
    version is put beside it as `NAME.new.ipynb`.

    Raises:
        KitError: the disk cannot take them.
    """
    folder = folder or paths.runs() / "lab"
    record = folder / RECORD
    try:
        copied = read_sealed(record, "record of copied notebooks", "delete it")
    except KitError:  # none yet, or damaged: then whatever differs from the kit's is taken for edited
        copied = {}
    done = Copies(folder)
    for source in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        own, beside = folder / source.name, folder / f"{source.stem}.new.ipynb"
        if _follows(own, source, copied):
            continue
        done.kept.append(own)
        if copied.get(own.name) != _cells(source):
            (done.newer if _follows(beside, source, copied) else done.kept).append(beside)
    write_sealed(record, copied)
    return done


def _follows(copy: Path, source: Path, copied: dict[str, str]) -> bool:
    """Make `copy` the kit's version and note it, unless it was edited; whether it is."""
    now, found = _cells(source), _cells(copy)
    if copy.is_file() and found not in (copied.get(copy.name), now):
        return False
    # A copy of this version is left alone: its outputs may be the reader's.
    if found != now:
        with atomic(copy) as temporary:
            temporary.write_bytes(source.read_bytes())
    copied[copy.name] = now
    return True


def _cells(notebook: Path) -> str:
    """A hash of the text of a notebook's cells; empty for a file that is none."""
    try:
        cells = read_json(notebook, "notebook")["cells"]
        text = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    except (KitError, KeyError, TypeError):
        return ""
    return hashlib.sha256(json.dumps(text).encode()).hexdigest()
