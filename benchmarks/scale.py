"""What an image costs, and how that grows: time, memory and disk of features, scores and metrics.

    python -m benchmarks.scale [--profile mini] [--images 200,400,800] [--weights random] [--jobs 1,2,4]

Each count runs in a process of its own, on the images of `mini-test`, repeated as often as needed. The last
lines are the cost of one more image (from the smallest to the largest count) and, computed from it, that of
a million. Seconds on a CPU are those the processor spent, in one thread, whatever else the machine did. With
`--weights random` the paper profile can be measured without CLIP's weights: they change no cost.

With `--jobs`, so many processes at once extract the features of the largest count, each a shard in one
thread, and joined: seconds on the clock, the start of the processes included.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from data_prep.mini import benchmark
from data_prep.workers import spread
from fap_lib.clip.backbone import device_name, load_backbone
from fap_lib.core import paths
from fap_lib.core.config import Profile, load_profile
from fap_lib.data.features import features, join_shards, shard
from fap_lib.data.manifest import Manifest, read_manifest, write_manifest
from fap_lib.evaluation.scoring import evaluate, score
from fap_lib.model import FAPrompt
from fap_lib.runs.record import peak_memory_mb

MILLION = 1_000_000


def repeated(source: Manifest, count: int, folder: Path) -> Manifest:
    """A dataset of `count` images: those of `source`, in turn and again, of one category."""
    (folder / "images").symlink_to(source.root)
    records = itertools.islice(itertools.cycle(source.records("test")), count)
    placed = [
        replace(
            record,
            image=f"images/{record.image}",
            mask=record.mask and f"images/{record.mask}",
            category="repeated",
        )
        for record in records
    ]
    manifest = Manifest(folder, "repeated", source.mask_rule, {"test": placed})
    write_manifest(manifest, {})
    return manifest


def measure(profile: Profile, count: int) -> dict[str, float]:
    """Seconds, MB on disk and the largest resident memory for `count` images; run it in a fresh process."""
    torch.set_num_threads(1)
    source = benchmark.generate(paths.data() / "mini-test", "mini-test")
    backbone = load_backbone(profile.features.backbone, profile.features.weights)
    device = device_name()
    backbone.to(device, profile.features.precision)
    model = FAPrompt(backbone.text_tower, profile.model, backbone.patch_width).to(device)
    loaded = peak_memory_mb()
    clock = time.perf_counter if device == "cuda" else time.process_time
    with tempfile.TemporaryDirectory(dir=paths.home()) as name:
        folder = Path(name)
        manifest = repeated(source, count, folder)
        begin = clock()
        cache = features(manifest, "test", backbone, profile.features)
        extracted = clock()
        features(manifest, "test", backbone, profile.features)
        opened = clock()
        scores = score(model, cache, profile.scoring, folder / "maps.npy")
        scored = clock()
        evaluate(scores, profile.scoring)
        measured = clock()
        stored = paths.cache() / cache.digest
        row = {
            "images": count,
            "features s": extracted - begin,
            "opening s": opened - extracted,
            "scoring s": scored - opened,
            "metrics s": measured - scored,
            "cache MB": sum(path.stat().st_size for path in stored.iterdir()) / 1e6,
            "maps MB": (folder / "maps.npy").stat().st_size / 1e6,
            "memory MB": peak_memory_mb() - loaded,
        }
        shutil.rmtree(stored)
    return row


def in_jobs(profile: Profile, count: int, jobs: int) -> dict[str, float]:
    """Seconds on the clock for `jobs` processes to extract `count` images, a shard each, and to join them."""
    source = benchmark.generate(paths.data() / "mini-test", "mini-test")
    with tempfile.TemporaryDirectory(dir=paths.home()) as name:
        manifest = repeated(source, count, Path(name))
        begin = time.perf_counter()
        for _ in spread(partial(extract, profile, manifest.root, jobs), range(jobs), f"{jobs} jobs", jobs):
            pass
        extracted = time.perf_counter()
        backbone = load_backbone(profile.features.backbone, profile.features.weights)
        cache = join_shards(manifest, "test", backbone, profile.features, jobs)
        joined = time.perf_counter()
        shutil.rmtree(paths.cache() / cache.digest)
    wall = joined - begin
    return {
        "jobs": jobs,
        "extracting s": extracted - begin,
        "joining s": joined - extracted,
        "images/s": count / wall,
    }


def extract(profile: Profile, root: Path, jobs: int, number: int) -> None:
    """Features of one shard of a dataset, in one thread."""
    torch.set_num_threads(1)
    backbone = load_backbone(profile.features.backbone, profile.features.weights)
    features(shard(read_manifest(root), "test", number, jobs), "test", backbone, profile.features)


def main() -> None:
    """Measure all counts, print the tables."""
    parser = argparse.ArgumentParser(description="What an image costs.")
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--images", default="200,400,800", help="counts, at least two")
    parser.add_argument("--weights", help="a file, or random")
    parser.add_argument("--jobs", help="numbers of processes, such as 1,2,4")
    chosen = parser.parse_args()
    changes = {"features": {"weights": chosen.weights}} if chosen.weights else {}
    profile = load_profile(chosen.profile, changes)
    rows: list[dict[str, float]] = []
    for count in sorted(int(text) for text in chosen.images.split(",")):
        rows += spread(partial(measure, profile), [count], f"{count} images", 1)
    table = pd.DataFrame(rows, dtype=float).set_index("images")
    slope = (table.iloc[-1] - table.iloc[0]) / (table.index[-1] - table.index[0])
    table.loc["one more"] = slope
    table.loc["a million"] = slope * MILLION
    print(f"{profile.label}, {device_name()}")
    print(table.to_string(float_format="{:.4g}".format))
    if chosen.jobs:
        counts = [int(text) for text in chosen.jobs.split(",")]
        parts = [in_jobs(profile, int(table.index[-3]), jobs) for jobs in counts]
        print(pd.DataFrame(parts).set_index("jobs").to_string(float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
