"""What a machine lacks for a grid: everything at once, before anything runs (`fap doctor`)."""

import json
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from fap_lib.clip import mini
from fap_lib.clip.backbone import RANDOM, TINY, widths
from fap_lib.core import arguments, paths
from fap_lib.core.config import FeatureSettings
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.data.manifest import read_manifest
from fap_lib.grids.settings import Grid, base, chosen, read_grid
from fap_lib.official.inspection import check_fits, line
from fap_lib.runs import preparation

State = Literal["ok", "note", "missing"]

_PATCH = {"ViT-L-14-336-quickgelu": 14, "ViT-L-14-336": 14, TINY: 14, mini.MINI: 8, mini.SILENT: 8}
_RATE = "a whole dataset"
"""The row of a benchmark that times files to metrics."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. todo: what to do about it; empty where nothing is needed."""

    what: str
    state: State
    found: str
    todo: str = ""


def examine(path: Path) -> list[Finding]:
    """Look at all that a grid needs: software, GPU, weights, prompts, datasets, time, disk.

    Args:
        path: the grid's YAML file.

    Raises:
        KitError: the file is no grid.
    """
    grid = read_grid(path)
    features = base(grid).features
    counts = {name: preparation.test_images(name) for name in grid.used}
    return [
        Finding("Python", "ok", platform.python_version()),
        Finding("torch", "ok", torch.__version__),
        _gpu(),
        _engine(),
        _weights(features),
        *(_prompts(source, paths.run(name), features) for source, name in grid.prompts.items()),
        *(_dataset(name) for name in grid.used),
        *_time(grid, counts),
        _disk(grid, features, counts),
    ]


def _gpu() -> Finding:
    if not torch.cuda.is_available():
        return Finding("GPU", "note", "none that torch can use; everything runs on the CPU")
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    wide = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
    return Finding("GPU", "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB, {wide}")


def _engine() -> Finding:
    own = paths.REPOSITORY / ".venv-workflow" / "bin" / "snakemake"
    if own.is_file() or shutil.which("snakemake"):
        return Finding("Snakemake", "ok", "installed")
    return Finding("Snakemake", "missing", "not installed", "make workflow")


def _weights(features: FeatureSettings) -> Finding:
    what = f"weights of {features.backbone}"
    if features.backbone in (TINY, mini.MINI, mini.SILENT) or features.weights == RANDOM:
        return Finding(what, "ok", "come with the kit")
    if features.weights and not arguments.place(features.weights).is_file():
        return Finding(
            what, "missing", f"not at {features.weights}", "give their path in the grid's settings"
        )
    from fap_lib.clip.published import weights_at_hand  # open_clip, which is slow to import

    place = arguments.place(features.weights) if features.weights else weights_at_hand(features.backbone)
    if place is None:
        todo = f"`fap weights {features.backbone}` fetches them, or says what to put where"
        return Finding(what, "missing", "not here", todo)
    return Finding(what, "ok", f"{place}, SHA-256 {sha256(place)}")


def _prompts(source: str, path: Path, features: FeatureSettings) -> Finding:
    what = f"prompts learned on {source}"
    try:
        check_fits(path, features)
        return Finding(what, "ok", line(path))
    except KitError as error:
        return Finding(what, "missing", "cannot be used", str(error))


def _dataset(name: str) -> Finding:
    what = f"dataset {name}"
    if preparation.is_generated(name):
        return Finding(what, "ok", "is drawn when it is needed")
    folder = paths.dataset(name)
    if not (folder / "meta.json").is_file():
        return Finding(what, "missing", "not prepared", preparation.advice(name))
    try:
        manifest = read_manifest(folder)
        count = len(manifest.records("test"))
    except KitError as error:
        return Finding(what, "missing", "cannot be used", str(error))
    different = preparation.differing(manifest)
    if different:
        return Finding(what, "note", f"{count} test images; not as its protocol says: {different}")
    return Finding(what, "ok", f"{count} test images")


def _time(grid: Grid, counts: dict[str, int]) -> list[Finding]:
    """Seconds for each dataset at the measured rate of its profile, files to metrics."""
    results = paths.KIT / "benchmarks" / "results" / f"{grid.profile}.json"
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"] if results.is_file() else []
    rates = [
        row["images"] / row["seconds"]
        for row in rows
        if row["case"].startswith(_RATE) and row["way"] == "kit"
    ]
    gpu = "GPU: not measured"
    if not rates:
        return [Finding("time", "note", f"CPU: not measured for the profile {grid.profile}; {gpu}")]
    told = ", ".join(f"{name} {_lasting(count / rates[0])}" for name, count in counts.items())
    total = sum(counts.values()) / rates[0]
    return [
        Finding(
            "time",
            "note",
            f"CPU: {told}; one pass over all of them {_lasting(total)} at the {rates[0]:.3g} images a second "
            f"of benchmarks/results/{results.name} (two cores). {gpu}",
        )
    ]


def _lasting(seconds: float) -> str:
    """`40 s`, `12 min` or `3.5 h`, in the unit that says most."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _disk(grid: Grid, features: FeatureSettings, counts: dict[str, int]) -> Finding:
    """Features (float16) and masks once a dataset, patch maps (float32) once an evaluation."""
    patches = (features.image_size // _PATCH.get(features.backbone, 14)) ** 2
    _, width = widths(features.backbone)
    cached = 2 * width * (patches + 1) + features.image_size**2 // 8
    evaluations = len(chosen(grid)) * max(1, len(grid.modes)) * len(grid.seeds)
    needed = sum(counts.values()) * (cached + evaluations * 2 * 4 * patches)
    home = paths.home()
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    found = f"{needed / 2**30:.1f} GiB needed at most, {free / 2**30:.1f} GiB free in {home}"
    if needed > free:
        return Finding("disk", "missing", found, "free some space, or set FAP_HOME to a larger disk")
    return Finding("disk", "ok", found)


def table(findings: list[Finding]) -> str:
    """The findings as lines of text; what to do stands below what is missing."""
    width = max(len(each.what) for each in findings)
    lines = []
    for each in findings:
        lines.append(f"{each.state:8} {each.what:{width}}  {each.found}")
        if each.todo:
            lines.append(f"{'':{width + 11}}-> {each.todo}")
    return "\n".join(lines)
