"""From what `tiling`, `export`, `start` and `memory` measured to tables; `pages` puts them into pages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_prep.mini.canvas import SIZE
from fap_lib.core.files import read_json
from fap_lib.inference.tiles import OVERLAP

FOLDER = Path(__file__).parent / "results"
TILING, EXPORT = FOLDER / "tiling.json", FOLDER / "export.json"
START, MEMORY = FOLDER / "start.json", FOLDER / "memory.json"

LAID = "small defects"
GROWN = {"cable": "faults of cables", "screw": "bent screws"}
"""Structural faults of objects: wires that are missing or of the wrong colour, and screws that are bent."""


def tables() -> dict[str, str]:
    """The tables of the last runs, by name."""
    made: dict[str, tuple[Path, Callable[[dict[str, Any]], str]]] = {
        "tiling quality": (TILING, quality),
        "tiling cost": (TILING, costs),
        "export": (EXPORT, differences),
        "start": (START, start),
        "memory": (MEMORY, memory),
    }
    return {
        name: table(read_json(path, "table of figures"))
        if path.is_file()
        else f"Not yet measured: `python -m benchmarks.{path.stem}`."
        for name, (path, table) in made.items()
    }


def quality(found: dict[str, Any]) -> str:
    """Whole images against tiles."""
    shown = ("image", LAID, *GROWN.values(), "pixel", "aupro")
    head = ["images", "tiles", "seconds an image", "image AUROC", *shown[1:4], "pixel AUROC", "AUPRO"]
    rows = []
    for row in found["ways"]:
        tiles = f"{row['tiles']} of {row['tile']} px" if row["tile"] else "none"
        figures = [f"{row[name]:.1f}" for name in shown]
        rows.append([f"{row['side']} px", tiles, f"{row['seconds']:.3f}", *figures])
    about = found["about"]
    note = (
        f"Shipped prompts (`paper`), mini CLIP at {SIZE} px, overlap {OVERLAP:g}; "
        f"{found['ways'][0]['images']} images of eight categories, means over categories in per cent; "
        f"processor seconds on one thread of {about['cpu']}, torch {about['torch']}. Generated images: no "
        "figure here says anything of real ones."
    )
    return f"{_table(head, rows)}\n\n{note}"


def costs(found: dict[str, Any]) -> str:
    """What one photo costs."""
    rows = [
        [
            f"{row['width']} x {row['height']}",
            f"{row['tiles']} of {row['tile']} px",
            f"{row['seconds']:.1f}",
            str(row["grown"]),
            f"{row['grown'] * 2**20 / (row['width'] * row['height']):.0f}",
        ]
        for row in found["photos"]
    ]
    return _table(["photo", "tiles", "processor seconds", "memory gained, MiB", "bytes a pixel"], rows)


def differences(found: dict[str, Any]) -> str:
    """Each exported file against the detector."""
    rows = []
    for row in found["rows"]:
        name = f"`{row['file']}`" if row["megabytes"] else row["file"]
        size = f"{row['megabytes']:.1f}" if row["megabytes"] else ""
        apart = [f"{row[column]:.1e}" if row[column] else "0" for column in ("score", "map", "mean_map")]
        rows.append([name, size, *apart, f"{row['seconds']:.3f}"])
    about = found["about"]
    note = (
        f"Shipped prompts (`paper`), mini CLIP at {SIZE} px, {about['images']} images of "
        f"{', '.join(about['categories'])}; largest differences over all images and pixels; processor "
        f"seconds, median, on one thread of {about['cpu']}; torch {about['torch']}, onnxruntime "
        f"{about['onnxruntime']}."
    )
    return f"{_table(['', 'MB', 'score', 'map', 'map, mean', 'seconds an image'], rows)}\n\n{note}"


def start(found: dict[str, Any]) -> str:
    """How long `fap score` takes to start."""
    return (
        f"On the mini profile scoring begins {found['score']:.1f} processor seconds after the start; "
        f"{found['torch']:.1f} of them are PyTorch's own import (median of {found['turns']} starts on one "
        f"thread of {found['cpu']}, `python -m benchmarks.start`)."
    )


def memory(found: dict[str, Any]) -> str:
    """How much a detector holds after more and more images."""
    peaks = [f"{peak:,} MiB after {int(images):,}" for images, peak in found["peaks"].items()]
    return (
        f"Memory does not grow with the number of images: at most {', '.join(peaks)} images of "
        f"{found['side']} px (`python -m benchmarks.memory`; the tiny CLIP, most of it is PyTorch itself)."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
