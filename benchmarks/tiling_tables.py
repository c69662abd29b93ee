"""From what `benchmarks.tiling` measured to tables; `benchmarks.pages` puts them into pages."""

from pathlib import Path
from typing import Any

from data_prep.mini.canvas import SIZE
from fap_lib.core.files import read_json
from fap_lib.inference.tiles import OVERLAP

RESULTS = Path(__file__).parent / "results" / "tiling.json"

LAID, GROWN = "small defects", "structural faults of objects"


def tables() -> dict[str, str]:
    """The tables of the last run, by name."""
    found = read_json(RESULTS, "table of figures") if RESULTS.is_file() else None
    missing = "Not yet measured: `python -m benchmarks.tiling`."
    return {
        "tiling quality": quality(found) if found else missing,
        "tiling cost": costs(found) if found else missing,
    }


def quality(found: dict[str, Any]) -> str:
    """Whole images against tiles."""
    lines = [
        f"| images | tiles | seconds an image | image AUROC | {LAID} | {GROWN} | pixel AUROC | AUPRO |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["ways"]:
        tiles = f"{row['tiles']} of {row['tile']} px" if row["tile"] else "none"
        figures = [f"{row[name]:.1f}" for name in ("image", LAID, GROWN, "pixel", "aupro")]
        cells = [f"{row['side']} px", tiles, f"{row['seconds']:.3f}", *figures]
        lines.append("| " + " | ".join(cells) + " |")
    about = found["about"]
    note = (
        f"Shipped prompts (`paper`), mini CLIP at {SIZE} px, overlap {OVERLAP:g}; "
        f"{found['ways'][0]['images']} images of eight categories, means over categories in per cent; "
        f"processor seconds on one thread of {about['cpu']}, torch {about['torch']}. Generated images: no "
        "figure here says anything of real ones."
    )
    return "\n".join([*lines, "", note])


def costs(found: dict[str, Any]) -> str:
    """What one photo costs."""
    lines = [
        "| photo | tiles | processor seconds | memory gained, MiB | of it the photo and its map, MiB |",
        "|---|---|---|---|---|",
    ]
    for row in found["photos"]:
        cells = [
            f"{row['width']} x {row['height']}",
            f"{row['tiles']} of {row['tile']} px",
            f"{row['seconds']:.1f}",
            str(row["grown"]),
            str(row["held"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
