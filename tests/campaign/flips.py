"""Flipped bits and cut ends in every kind of stored file: noticed, or without any effect."""

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from fap_lib.checkpoints import load_prompts
from fap_lib.core import paths
from fap_lib.core.errors import KitError
from fap_lib.core.tensors import read_tensors
from fap_lib.data.manifest import read_manifest
from fap_lib.runs.record import read_run, result
from fap_lib.training import STATE, train
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


def outcome(name: str) -> Callable[[World], object]:
    folder = Path("runs/evaluation")
    return lambda world: result(world.home / folder, name).read_bytes()


def run_record(_: World) -> object:
    return read_run(paths.runs() / "evaluation")


def exported(_: World) -> object:
    tensors, header = read_tensors(paths.models() / "tiny.safetensors", "write it again")
    return {**{key: value.numpy() for key, value in tensors.items()}, "header": header}


KINDS: dict[str, tuple[str, Callable[[World], object]]] = {
    "prompts": (f"runs/training/{paths.PROMPTS}", prompts),
    "training state": (f"runs/interrupted/{STATE}", state),
    "cache, global features": ("cache/*/image.npy", rows),
    "cache, patch features": ("cache/*/patches.npy", rows),
    "cache, masks": ("cache/*/masks.npy", rows),
    "cache, table of rows": ("cache/*/rows.npy", rows),
    "dataset, meta.json": ("data/own/meta.json", manifest),
    "dataset, dataset.json": ("data/own/dataset.json", manifest),
    "evaluation, maps": ("runs/evaluation/patch_maps.npy", outcome("patch_maps.npy")),
    "evaluation, scores": ("runs/evaluation/scores.csv", outcome("scores.csv")),
    "evaluation, metrics": ("runs/evaluation/metrics.json", outcome("metrics.json")),
    "evaluation, record": ("runs/evaluation/run.json", run_record),
    "exported weights": ("models/tiny.safetensors", exported),
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


def flip(world: World, count: int, chance: random.Random) -> list[tuple[str, str, Outcome]]:
    """Damage `count` files of each kind: (kind, what was done, outcome)."""
    torch.set_num_threads(1)
    world.restore()
    interrupt(world)
    told = []
    for kind, (pattern, read) in KINDS.items():
        (path,) = world.home.glob(pattern)
        stored = {item: item.read_bytes() for item in path.parent.iterdir() if item.is_file()}
        expected = read(world)
        for _ in range(count):
            for item in path.parent.iterdir():
                if item.is_file() and item not in stored:
                    item.unlink()
            for item, content in stored.items():
                item.write_bytes(content)
            done = damage(path, chance)
            try:
                found: Outcome = None if same(read(world), expected) else "read, and different"
            except KitError:
                found = None
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            told.append((kind, done, found))
        for item, content in stored.items():
            item.write_bytes(content)
    return told
