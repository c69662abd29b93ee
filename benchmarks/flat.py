"""Does memory stay flat? Peak memory of training, and of scoring with metrics, on a tenfold dataset.

Each measurement is a process of its own that knows only a cache of random features on the disk.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import TRACE_ENVIRONMENT, peak
from fap_lib.clip.backbone import TINY, Backbone, load_backbone
from fap_lib.core.config import FeatureSettings, ModelSettings, ScoreSettings, TrainSettings
from fap_lib.data.features import FeatureCache
from fap_lib.data.manifest import Manifest, Record
from fap_lib.evaluation.scoring import evaluate, score
from fap_lib.model import FAPrompt
from fap_lib.training import train

SIZE = 518
LIMIT = 0.05


def growth(few: int) -> list[dict[str, Any]]:
    """Peak memory (MB) with `few` and ten times as many images of 518 px, for each job."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        megabytes = {count: write_features(Path(folder) / str(count), count) for count in (few, 10 * few)}
        for job in ("training, one epoch", "scoring with all metrics"):
            peaks = [_peak_of(job, Path(folder), count) for count in (few, 10 * few)]
            results.append(
                {
                    "job": job,
                    "images": [few, 10 * few],
                    "cache_mb": list(megabytes.values()),
                    "peak_mb": peaks,
                    "growth": peaks[1] / peaks[0] - 1,
                    "limit": LIMIT,
                }
            )
    return results


def write_features(folder: Path, count: int, size: int = SIZE, width: int = 64) -> float:
    """A cache of random features for patches of 14 pixels; returns its size in MB."""
    folder.mkdir()
    random = np.random.default_rng(0)
    shapes = {
        "image": ((count, width), np.float16),
        "patches": ((count, (size // 14) ** 2, width), np.float16),
        "masks": ((count, -(-size * size // 8)), np.uint8),
    }
    total = 0
    for name, (shape, kind) in shapes.items():
        array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
        for index in range(count):
            if name != "masks":
                row = random.standard_normal(shape[1:], dtype=np.float32)
                array[index] = row / np.linalg.norm(row, axis=-1, keepdims=True)
            elif index % 2:  # every other image is anomalous, in its upper quarter
                array[index, : shape[1] // 4] = 255
        total += array.nbytes
        del array
    return total / 1e6


def opened(folder: Path, count: int, backbone: Backbone, settings: FeatureSettings) -> FeatureCache:
    """What `write` wrote, as a dataset of one category."""
    records = [Record(f"{i}.png", f"{i}.png" if i % 2 else None, "all", "good", i % 2) for i in range(count)]
    manifest = Manifest(folder, "random", "nonzero", {"test": records})
    return FeatureCache(folder, manifest, "test", backbone, settings)


def _peak_of(job: str, folder: Path, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.flat", job, str(folder), str(count)]
    environment = {**os.environ, **TRACE_ENVIRONMENT}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1]))


def peak_of(job: str, folder: Path, count: int) -> float:
    """Do the job; returns this process's peak memory in MB."""
    torch.manual_seed(0)
    backbone = load_backbone(TINY)
    cache = opened(
        folder / str(count), count, backbone, FeatureSettings(backbone=TINY, image_size=SIZE, vv_blocks=2)
    )
    model = FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2), backbone.patch_width)
    if job.startswith("training"):
        train(model, cache, TrainSettings(epochs=1), folder / f"run-{count}")
    else:
        scored = score(model, cache, ScoreSettings(), folder / f"patches-{count}.npy")
        evaluate(scored, ScoreSettings())
    return peak() / 2**20


if __name__ == "__main__":
    print(json.dumps(peak_of(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
