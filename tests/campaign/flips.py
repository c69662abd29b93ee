"""Flipped bits and cut ends in every kind of stored file: noticed, or without any effect."""

import os
import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from data_prep.archives import COMPLETE, unpack
from fap_lib.checkpoints import load_prompts
from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.core.sealed import write_sealed
from fap_lib.core.tensors import read_tensors
from fap_lib.data.features import COMPLETE as CACHED
from fap_lib.data.manifest import read_manifest
from fap_lib.grids.grid import load_grid
from fap_lib.grids.grid import plan as plan_jobs
from fap_lib.grids.jobs import FAILED, PLAN, failure, is_done, read_record
from fap_lib.grids.results import unfinished
from fap_lib.grids.snakemake import write_plan
from fap_lib.inference.detector import KEPT, Detector, Threshold
from fap_lib.runs.marks import DONE, mark, seconds
from fap_lib.runs.record import read_run, result
from fap_lib.training import STATE, train
from tests.campaign.log import Log
from tests.campaign.world import TRAINING, World

Outcome = str | None
"""None where it held, else what happened instead."""


class Interrupted(Exception):
    """Stops a training where a kill would."""


def prompts(world: World) -> object:
    found = load_prompts(paths.runs() / "training" / paths.PROMPTS, world.backbone)
    return {name: value.numpy() for name, value in found.model.state_dict().items()}


def state(world: World) -> object:
    """A training continued from its state, and the prompts it ends with."""
    folder = paths.runs() / "interrupted"
    path = train(world.model(), world.cache(), TRAINING, folder)
    return {name: value.numpy() for name, value in read_tensors(path, "x")[0].items()}


def interrupt(world: World) -> None:
    """Leave the state of a training that was stopped after its fifth step."""

    def stop(line: dict) -> None:
        if line["step"] == 5:
            raise Interrupted

    folder = paths.runs() / "interrupted"
    with suppress(Interrupted):
        train(world.model(), world.cache(), TRAINING, folder, follow=stop)


def rows(world: World) -> object:
    found = world.cache()
    every = np.arange(len(found))
    image, patches = found.features(every)
    return {"image": image.numpy(), "patches": patches.numpy(), "masks": found.masks(every).numpy()}


def manifest(_: World) -> object:
    found = read_manifest(paths.data() / "own")
    return found.name, found.mask_rule, found.splits


def outcome(name: str, step: str = "evaluation") -> Callable[[World], object]:
    return lambda world: result(world.home / "runs" / step, name).read_bytes()


def run_record(_: World) -> object:
    return read_run(paths.runs() / "evaluation")


def exported(_: World) -> object:
    tensors, header = read_tensors(paths.models() / "tiny.safetensors", "write it again")
    return {**{key: value.numpy() for key, value in tensors.items()}, "header": header}


def calibrate(world: World) -> None:
    """Leave a detector with a threshold."""
    checkpoint = load_prompts(paths.runs() / "training" / paths.PROMPTS, world.backbone)
    detector = Detector(world.backbone, checkpoint, 1.0, "cpu")
    detector.calibrate(sorted((paths.data() / "toy-aux").glob("*/good/*.png")), alpha=0.3)
    detector.save(world.home / DETECTOR)


def detector(world: World) -> object:
    found = load_prompts(world.home / DETECTOR, world.backbone)
    values = {name: value.numpy() for name, value in found.model.state_dict().items()}
    return {**values, KEPT: Threshold.parse(found.about[KEPT])}


def plan(world: World) -> None:
    """Leave the plan of a grid with a finished job and one that failed, and a finished step."""
    path = world.home / "toy.yaml"
    path.write_text("profile: tiny\ndatasets: {toy-aux: [own]}\n", encoding="utf-8")
    grid, folder = load_grid(path), world.home / GRID
    write_plan(grid, plan_jobs(grid, folder), folder, [])
    mark(folder / JOB, sha256(folder / "jobs" / f"{JOB}.json"), 12.5)
    report = {"job": sha256(folder / "jobs" / "results.json"), "error": "no such image."}
    write_sealed(folder / "results" / FAILED, report)


def job_mark(world: World) -> object:
    folder = world.home / GRID
    return is_done(folder, JOB), seconds(folder / JOB)


def report(world: World) -> object:
    said = failure(world.home / GRID, "results")
    if said is None:
        raise KitError("nothing is known of a failure, so the job runs again.")
    return said


def archive(world: World) -> None:
    """Leave an unpacked archive."""
    with zipfile.ZipFile(world.home / "toy.zip", "w") as file:
        file.writestr("a/b.txt", "content")
    unpacked(world)


def unpacked(world: World) -> object:
    place = unpack(world.home / "toy.zip", world.home / "unpacked")
    files = (path for path in place.rglob("*") if path.is_file() and path.name != COMPLETE)
    return {str(path): path.read_bytes() for path in files}


DETECTOR = "models/detector.safetensors"
GRID, JOB = "runs/grid", "features/toy-aux"

KINDS: dict[str, tuple[str, Callable[[World], object]]] = {
    "prompts": (f"runs/training/{paths.PROMPTS}", prompts),
    "detector with a threshold": (DETECTOR, detector),
    "exported weights": ("models/tiny.safetensors", exported),
    "training state": (f"runs/interrupted/{STATE}", state),
    "training log": ("runs/training/training.jsonl", outcome("training.jsonl", "training")),
    "cache, global features": ("cache/*/image.npy", rows),
    "cache, patch features": ("cache/*/patches.npy", rows),
    "cache, masks": ("cache/*/masks.npy", rows),
    "cache, table of rows": ("cache/*/rows.npy", rows),
    "cache, mark": (f"cache/*/{CACHED}", rows),
    "dataset, meta.json": ("data/own/meta.json", manifest),
    "dataset, dataset.json": ("data/own/dataset.json", manifest),
    "dataset, manifest.jsonl": ("data/own/manifest.jsonl", manifest),
    "archive, mark": (f"unpacked/{COMPLETE}", unpacked),
    "evaluation, maps": ("runs/evaluation/patch_maps.npy", outcome("patch_maps.npy")),
    "evaluation, scores": ("runs/evaluation/scores.csv", outcome("scores.csv")),
    "evaluation, metrics": ("runs/evaluation/metrics.json", outcome("metrics.json")),
    "evaluation, record": ("runs/evaluation/run.json", run_record),
    "grid, plan": (f"{GRID}/{PLAN}", lambda world: unfinished(world.home / GRID)),
    "grid, job's record": (
        f"{GRID}/jobs/{JOB}.json",
        lambda world: read_record(world.home / GRID / "jobs" / f"{JOB}.json"),
    ),
    "grid, job's mark": (f"{GRID}/{JOB}/{DONE}", job_mark),
    "grid, report of a failure": (f"{GRID}/results/{FAILED}", report),
}
"""Each kind of stored file: where it lies, and how it is read back."""


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    return bool(one == other)


def damage(path: Path, chance: random.Random) -> str:
    """Flip one bit, or cut the end (one time in four); says what was done."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    if chance.random() < 0.25:
        os.truncate(path, place)
        return f"cut at {place}"
    # Headers are short and matter most: half of the flips go there.
    if chance.random() < 0.5:
        place = chance.randrange(min(256, len(content)))
    bit = chance.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place}"


def flip(world: World, count: int, log: Log) -> None:
    """Damage each kind of file `count` times."""
    world.restore()
    for leave in (interrupt, calibrate, plan, archive):
        leave(world)
    for kind, (pattern, read) in KINDS.items():
        (path,) = world.home.glob(pattern)
        stored = {item: item.read_bytes() for item in path.parent.iterdir() if item.is_file()}
        expected = read(world)
        for number in log.missing(kind, count):
            _put_back(path.parent, stored)
            done = damage(path, log.chance(kind, number))
            try:
                found: Outcome = None if same(read(world), expected) else "read, and different"
            except KitError:
                found = None
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            log.note(kind, number, done, found)
        _put_back(path.parent, stored)


def _put_back(folder: Path, stored: dict[Path, bytes]) -> None:
    """Give a folder the files it had, and no others."""
    for item in folder.iterdir():
        if not item.is_dir() and item not in stored:
            item.unlink()
    for item, content in stored.items():
        item.write_bytes(content)
