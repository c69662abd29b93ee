"""The GPU's table: encoding, training, scoring, and an estimate of the whole paper from these parts.

`make bench PROFILE=gpu` on a machine with a GPU measures all of it, with random weights of the true shape
and features of the true sizes. Without a GPU the same code runs at small size on the CPU, to show that it
works; its figures then mean nothing, and the table says "not yet measured".
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import flat, rows
from benchmarks.measure import machine, matmul_rate, relative, synchronise
from fap_lib.clip.backbone import RANDOM, TINY, Backbone, device_name, load_backbone
from fap_lib.clip.image_tower import ImageTower
from fap_lib.core.config import FeatureSettings, ModelSettings, ScoreSettings, TrainSettings
from fap_lib.evaluation.scoring import evaluate, score
from fap_lib.model import FAPrompt
from fap_lib.training import train

TRAINING_IMAGES = (1725, 2162)
"""Images with masks that the paper trains on: MVTec AD's and VisA's test splits."""

TEST_IMAGES = 25_754
"""Images of all the paper's test sets."""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    backbone: str
    image_size: int
    vv_blocks: int
    deep_layers: int
    batches: tuple[int, ...]
    cached: int
    epochs: int
    matrix: int
    pictures: int


TRUE = Scale("ViT-L-14-336-quickgelu", 518, 19, 8, (8, 16, 32, 64), TRAINING_IMAGES[0], 15, 8192, 64)
SMALL = Scale(TINY, 98, 2, 2, (1, 2, 3, 4), 16, 1, 256, 1)

TARGETS = {
    "encoding, bfloat16": (325.0, "images/s"),
    "training, 15 epochs of 1,725 cached images": (180.0, "s"),
    "training, peak memory": (8.0, "GB"),
    "scoring from the cache, maps included": (250.0, "images/s"),
    "the whole paper, estimated": (15.0, "min"),
}


def measure_gpu(folder: Path) -> dict[str, Any]:
    """Measure everything; without a GPU, try it at small size and return a table without figures."""
    device = device_name()
    scale = TRUE if device == "cuda" else SMALL
    found = measured(scale, device, folder)
    for name, value in found.items():
        print(f"{name:60} {value if isinstance(value, str) else round(value, 3)}")
    about = machine()
    if device != "cuda":
        print("No GPU here: this was a trial at small size on the CPU, and none of its figures is a result.")
        about, found = {"gpu": None}, dict.fromkeys(map(_at_true_size, found))
    return {"about": about, "scale": asdict(TRUE), "figures": found, "targets": TARGETS}


def _at_true_size(name: str) -> str:
    """A figure's name with the batch size it has on a GPU."""
    for small, true in zip(SMALL.batches, TRUE.batches, strict=True):
        name = name.replace(f"batch {small},", f"batch {true},")
    return name


def measured(scale: Scale, device: str, folder: Path) -> dict[str, Any]:
    """Every figure of the table, in the units of its name or target."""
    backbone = load_backbone(scale.backbone, RANDOM if scale.backbone != TINY else None)
    found: dict[str, Any] = {
        "matrix product, bfloat16, TFLOP/s": max(
            matmul_rate("bfloat16", device, scale.matrix) for _ in range(5)
        )
        / 1e12
    }
    model = FAPrompt(backbone.text_tower, ModelSettings(deep_layers=scale.deep_layers), backbone.patch_width)
    found |= trained(scale, backbone, model, device, folder)
    found |= encoded(scale, backbone.to(device, "bfloat16"), device)

    decoding = rows.decoding(folder, scale.image_size, scale.pictures)
    kit = decoding.ways["kit, threads"].run
    found["decoding and resizing, images/s"] = (decoding.images or 0) / seconds(kit, "cpu", 3)
    return found | {"the whole paper, estimated": estimate(found)}


def seconds(function: Callable[[], Any], device: str, turns: int = 5) -> float:
    """Median time of a call, after one to warm up."""
    function()
    times = []
    for _ in range(turns):
        synchronise(device)
        start = time.perf_counter()
        function()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[turns // 2]


def encoded(scale: Scale, backbone: Backbone, device: str) -> dict[str, Any]:
    """Images/s from decoded images on the host, for each batch size and each way to run the tower."""
    tower = backbone.image_tower(scale.image_size, scale.vv_blocks)
    found: dict[str, Any] = {}

    def whole(images: np.ndarray) -> Tensor:
        return tower(backbone.normalise(images)).tokens

    for batch in scale.batches:
        images = pictures(batch, scale.image_size)
        spent = seconds(partial(whole, images), device)
        found[f"encoding, eager, batch {batch}, images/s"] = batch / spent
    expected = whole(images).float().cpu()
    for name, encode in variants(backbone, tower, device):
        try:
            difference = relative(encode(images).float().cpu(), expected)
            spent = seconds(partial(encode, images), device)
        except Exception as error:  # a variant may not be there (no compiler, no GPU); the table says so
            found[f"encoding, {name}, batch {batch}, images/s"] = f"failed: {type(error).__name__}"
            continue
        assert difference < 0.05, f"{name} differs by {difference}"
        found[f"encoding, {name}, batch {batch}, images/s"] = batch / spent
    rates = [value for value in found.values() if isinstance(value, float)]
    return found | {"encoding, bfloat16": max(rates)}


def variants(
    backbone: Backbone, tower: ImageTower, device: str
) -> Iterator[tuple[str, Callable[[np.ndarray], Tensor]]]:
    """Other ways to run the tower: the dense features of decoded images."""
    for name, mode in (("torch.compile", "default"), ("CUDA graphs", "reduce-overhead")):
        compiled = torch.compile(lambda pixels: tower(pixels).tokens, mode=mode)
        yield name, partial(_normalised, backbone, compiled)

    gpu = device == "cuda"
    streams = [torch.cuda.stream(torch.cuda.Stream()) if gpu else nullcontext() for _ in range(2)]

    def overlapped(images: np.ndarray) -> Tensor:
        """Halves of the batch; the second is copied from pinned memory while the first is encoded."""
        parts = []
        for stream, half in zip(streams, np.array_split(images, 2), strict=True):
            with stream:
                host = torch.from_numpy(half)
                pixels = host.pin_memory().to(device, non_blocking=True) if gpu else host
                parts.append(tower(backbone.normalise(pixels)).tokens)
        synchronise(device)
        return torch.cat(parts)

    yield "pinned copies beside the work", overlapped


def _normalised(backbone: Backbone, run: Callable[[Tensor], Tensor], images: np.ndarray) -> Tensor:
    return run(backbone.normalise(images))


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def trained(scale: Scale, backbone: Backbone, model: FAPrompt, device: str, folder: Path) -> dict[str, float]:
    """Training, scoring and metrics on a cache of random features of the true sizes."""
    flat.write_features(folder / "cached", scale.cached, scale.image_size, backbone.patch_width)
    features = FeatureSettings(
        backbone=scale.backbone, image_size=scale.image_size, vv_blocks=scale.vv_blocks
    )
    cache = flat.opened(folder / "cached", scale.cached, backbone, features)
    backbone.to(device)
    model.to(device)
    settings, scoring = TrainSettings(epochs=scale.epochs), ScoreSettings()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    train(model, cache, settings, folder / "run")
    synchronise(device)
    training = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0

    start = time.perf_counter()
    scores = score(model, cache, scoring, folder / "patches.npy")
    for index in np.array_split(np.arange(len(cache)), -(-len(cache) // scoring.batch_size)):
        scores.maps(index, scoring.sigma)
    spent = time.perf_counter() - start
    start = time.perf_counter()
    evaluate(scores, scoring)
    metrics = time.perf_counter() - start
    return {
        "training, 15 epochs of 1,725 cached images": training,
        "training, peak memory": peak,
        "scoring from the cache, maps included": scale.cached / spent,
        "all metrics, images/s": scale.cached / metrics,
    }


def estimate(found: dict[str, Any]) -> float:
    """Minutes for the whole paper: every image decoded and encoded once, two trainings, scores, metrics."""
    images = TEST_IMAGES + sum(TRAINING_IMAGES)  # as if no training image were also a test image
    slower = min(found["encoding, bfloat16"], found["decoding and resizing, images/s"])
    training = found["training, 15 epochs of 1,725 cached images"] * sum(TRAINING_IMAGES) / TRAINING_IMAGES[0]
    scoring = TEST_IMAGES / found["scoring from the cache, maps included"]
    metrics = TEST_IMAGES / found["all metrics, images/s"]
    return (images / slower + training + scoring + metrics) / 60
