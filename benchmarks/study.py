"""What the mini profile shows: every method, both auxiliary sets, several data draws and seeds.

    python -m benchmarks.study [--methods NAME ...] [--draws 3] [--seeds 5] [--workers 2]
    python -m benchmarks.study --sweeps --seeds 2      one setting at a time

A job is one method on one auxiliary set, draw and seed, tested on `mini-test` and `mini-organs` of the same
draw. Each leaves a small file, so an interrupted study continues. `benchmarks/results/study.csv` gathers
them, and `benchmarks/study_tables.py` makes the tables. Settings were chosen on `mini-val` alone.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks import pages, study_tables
from data_prep.mini import benchmark, sets
from data_prep.workers import spread
from fap_lib.clip import mini
from fap_lib.clip.backbone import Backbone, load_backbone
from fap_lib.core import paths
from fap_lib.core.config import Profile, load_profile
from fap_lib.core.files import read_json, write_json, write_text
from fap_lib.data.features import FeatureCache, features
from fap_lib.evaluation import baselines
from fap_lib.evaluation.baselines import WORDINGS
from fap_lib.evaluation.scoring import MEAN, Scores, evaluate, score, score_with
from fap_lib.lessons.study import SWEEPS
from fap_lib.model import FAPrompt
from fap_lib.training import train

TRAIN = ("mini-a", "mini-b")
TESTS = ("mini-test", "mini-organs")
VALIDATION = "mini-val"

MODELS: dict[str, dict[str, Any]] = {
    "single prompt": {"n_prompts": 1, "prior": False},
    "CAP": {"prior": False},
    "CAP + DAP, paper": {},
    "CAP + DAP, released": {"mode": "released"},
    "single prompt, bias": {"n_prompts": 1, "prior": False, "logit_bias": True},
    "CAP, bias": {"prior": False, "logit_bias": True},
    "CAP + DAP, bias": {"logit_bias": True},
    "CAP + DAP, random patches": {"selection": "random"},
}
"""Changes of the mini profile's model settings."""

CHANGED = {name: change for sweep in SWEEPS.values() for name, change in sweep.items()}
"""The sweeps' methods, one after the other; tested on `mini-test` alone."""

LEARNED = {**{name: {"model": change} for name, change in MODELS.items()}, **CHANGED}

SILENT = "silent "
"""Begins the name of a hand-written wording read by the text tower to which state words said nothing."""

WORDED = {
    f"hand: {words}, {'named' if named else 'object'}": (words, named)
    for words in WORDINGS
    for named in (True, False)
}
HAND = {**WORDED, **{f"{SILENT}{name}": value for name, value in WORDED.items()}}
PROBE = "linear probe"
TRIVIAL = ("foreground", "centre", "edges")
METHODS = (*TRIVIAL, *HAND, *MODELS, PROBE)

Cell = tuple[int, str, list[tuple[str, int]]]
"""A draw, an auxiliary set, and its jobs: method and seed."""

METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_auroc_foreground", "aupro_official")


def measure(scores: Scores, profile: Profile) -> Iterator[dict[str, Any]]:
    """One row a category, one a kind of defect, and their mean over categories."""
    tidy = evaluate(scores, profile.scoring)
    inside = foreground_auroc(scores, profile.scoring.sigma)
    for category in dict.fromkeys(row["category"] for row in tidy):
        values = {
            f"{row['level']}_{row['metric']}".replace("pixel_aupro", "aupro"): row["value"]
            for row in tidy
            if row["category"] == category
        }
        values["pixel_auroc_foreground"] = inside[category]
        yield {"category": category, **{name: values[name] for name in METRICS}}
    for kind, value in by_defect(scores).items():
        yield {"category": f"defect: {kind}", **dict.fromkeys(METRICS), "image_auroc": value}


def foreground_auroc(scores: Scores, sigma: float) -> dict[str, float]:
    """Pixel AUROC among the object's own pixels, per category and mean: finding the object is no merit."""
    records = scores.cache.records
    values = {}
    for category in dict.fromkeys(record.category for record in records):
        index = np.array([i for i, record in enumerate(records) if record.category == category])
        outlines = [np.asarray(Image.open(outline(scores.cache.root, records[i].image))) > 0 for i in index]
        masks = scores.cache.masks(index).numpy()
        # A defect may reach over the object's edge; its pixels count all the same.
        inside = np.stack(outlines) | masks
        values[category] = float(roc_auc_score(masks[inside], scores.maps(index, sigma).numpy()[inside]))
    return {**values, MEAN: statistics.fmean(values.values())}


def by_defect(scores: Scores) -> dict[str, float]:
    """Image AUROC of each kind of defect against the normal images, mean over the categories that have it."""
    values = defaultdict(list)
    groups = defaultdict(list)
    for i, record in enumerate(scores.cache.records):
        groups[record.category, record.defect].append(scores.image[i])
    for (category, kind), found in groups.items():
        if kind != "good":
            normal = groups[category, "good"]
            labels = [0] * len(normal) + [1] * len(found)
            values[kind].append(float(roc_auc_score(labels, [*normal, *found])))
    return {kind: statistics.fmean(each) for kind, each in sorted(values.items())}


def outline(root: Path, image: str) -> Path:
    """Foreground mask of a generated image."""
    return root / image.replace("/test/", "/foreground/")


def run_method(
    method: str, training: FeatureCache, test: FeatureCache, backbone: Backbone, profile: Profile, seed: int
) -> list[dict[str, Any]]:
    """Train where the method is trained, score, measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "maps.npy"
        if method in LEARNED:
            model = learn(method, training, backbone, seed, folder)
            scores = score(model, test, profile.scoring, out)
        else:
            predict = predictor(method, training, test, backbone, profile, seed)
            scores = score_with(predict, test, profile.scoring, out)
        return list(measure(scores, profile))


def predictor(
    method: str, training: FeatureCache, test: FeatureCache, backbone: Backbone, profile: Profile, seed: int
) -> baselines.Predictor:
    """The baseline of that name."""
    if method in HAND:
        words, named = HAND[method]
        return baselines.hand_written(backbone, test, WORDINGS[words], named, profile.model.temperature)
    if method == PROBE:
        return baselines.linear_probe(training, test, seed)
    if method == "foreground":
        return baselines.foreground(test, partial(outline, test.root))
    return {"centre": baselines.centre, "edges": baselines.edges}[method](test)


def learn(method: str, training: FeatureCache, backbone: Backbone, seed: int, folder: Path) -> FAPrompt:
    """Prompts learned on a cached dataset."""
    changed = load_profile("mini", LEARNED[method])
    torch.manual_seed(seed)
    model = FAPrompt(backbone.text_tower, changed.model, backbone.patch_width)
    how = changed.training.model_copy(update={"seed": seed})
    train(model, training, how, folder)
    return model


def cell(folder: Path, which: Cell) -> None:
    """All jobs of one auxiliary set and draw that are not done yet."""
    draw, train_set, jobs = which
    torch.set_num_threads(1)
    profile = load_profile("mini")
    backbone = load_backbone(profile.features.backbone)
    silent = cache(lambda: load_backbone(mini.SILENT))

    @cache
    def opened(name: str) -> FeatureCache:
        full = sets.named(name, draw)
        manifest = benchmark.generate(paths.data() / full, full)
        return features(manifest, "test", backbone, profile.features)

    for method, seed in jobs:
        reader = silent() if method.startswith(SILENT) else backbone
        tests = TESTS[:1] if method in CHANGED else TESTS
        for test in (*tests, *([VALIDATION] if method in WORDED else [])):
            job = {"method": method, "train": train_set, "test": test, "draw": draw, "seed": seed}
            path = folder / ("-".join(str(value) for value in job.values()).replace(" ", "_") + ".json")
            if not path.exists():
                rows = run_method(method, opened(train_set), opened(test), reader, profile, seed)
                write_json(path, [{**job, **row} for row in rows])


def plan(methods: list[str], draws: int, seeds: int) -> list[Cell]:
    """The cells. What depends on neither seed nor auxiliary set runs once a draw."""
    cells = []
    for draw in range(draws):
        for train_set in TRAIN:
            jobs = [(name, seed) for seed in range(seeds) for name in methods if name in LEARNED]
            jobs += [(name, 0) for name in methods if name == PROBE]
            if train_set == TRAIN[0]:
                jobs += [(name, 0) for name in methods if name not in LEARNED and name != PROBE]
            cells.append((draw, train_set, jobs))
    return cells


def collect(folder: Path) -> pd.DataFrame:
    """All finished jobs as one table; values rounded to what the data can tell."""
    rows = [row for path in sorted(folder.glob("*.json")) for row in read_json(path, "result of a job")]
    return pd.DataFrame(rows).round(4)


def main() -> None:
    """Run what is missing, gather, print and write the tables."""
    parser = argparse.ArgumentParser(description="What the mini profile shows.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--methods", nargs="+", metavar="NAME", default=METHODS, help="default: all")
    which.add_argument(
        "--sweeps", dest="methods", action="store_const", const=tuple(CHANGED), help="one setting at a time"
    )
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=paths.runs() / "study")
    chosen = parser.parse_args()
    known = (*METHODS, *CHANGED)
    unknown = [name for name in chosen.methods if name not in known]
    if unknown:
        raise SystemExit(f"unknown method {unknown[0]!r}; methods: {', '.join(known)}.")
    cells = plan(chosen.methods, chosen.draws, chosen.seeds)
    for _ in spread(partial(cell, chosen.folder), cells, "cells", chosen.workers):
        pass
    results = collect(chosen.folder)
    write_text(study_tables.RESULTS / "study.csv", results.to_csv(index=False, lineterminator="\n"))
    pages.write_pages()
    print(study_tables.document(results))


if __name__ == "__main__":
    main()
