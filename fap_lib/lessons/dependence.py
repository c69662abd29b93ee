"""What a figure depends on besides the method: choices that an evaluation makes, and often does not report.

Letters: n images, H = W their size in pixels, K prompts, S seeds, E epochs.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata
from torch import Tensor

from fap_lib.data.features import FeatureCache
from fap_lib.evaluation.metrics import FPR_LIMIT, pixel_metrics, region_weights
from fap_lib.lessons.lesson import Lesson
from fap_lib.model import FAPrompt
from fap_lib.training import train


def categories(cache: FeatureCache, index: np.ndarray) -> dict[str, np.ndarray]:
    """Places in `index` of each category's images."""
    names = np.array([cache.records[image].category for image in index])
    return {str(name): np.flatnonzero(names == name) for name in dict.fromkeys(names)}


def aurocs(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """AUROC of scores (..., n) against labels (n,) in {0, 1}, by ranks; ties count half."""
    positive = labels.astype(bool)
    many, few = int((~positive).sum()), int(positive.sum())
    ranks = rankdata(scores, axis=-1)[..., positive].sum(-1)
    found: np.ndarray = (ranks - few * (few + 1) / 2) / (few * many)
    return found


def macro(scores: np.ndarray, labels: np.ndarray, groups: dict[str, np.ndarray]) -> np.ndarray:
    """Mean over categories of the AUROC of scores (..., n): the papers' average."""
    return np.mean([aurocs(scores[..., own], labels[own]) for own in groups.values()], axis=0)


def smoothed_in_batches(maps: Tensor, sigma: float, batch: int) -> Tensor:
    """Maps (n, H, W) after SciPy's `gaussian_filter` was given whole batches (b, H, W).

    It smooths along every axis, so along the images of a batch too. With a batch of 1 there is nothing to
    smooth along.
    """
    parts = [gaussian_filter(part.numpy(), sigma) for part in maps.split(batch)]
    return torch.from_numpy(np.concatenate(parts))


def pixel_figures(cache: FeatureCache, index: np.ndarray, maps: Tensor, masks: Tensor) -> dict[str, float]:
    """Means over categories of all pixel metrics of maps and masks (n, H, W), in [0, 1]."""
    found = [
        {metric.name: metric.value for metric in pixel_metrics(partial(iter, [(maps[own], masks[own])]))}
        for own in categories(cache, index).values()
    ]
    means: dict[str, float] = pd.DataFrame(found).astype(float).mean().to_dict()
    return means


def aupro_by_steps(maps: Tensor, masks: Tensor, steps: int) -> float:
    """The official AUPRO of maps (n, H, W) with any number of thresholds in place of its 200.

    NaN for a flat map, and where fewer than two thresholds have a false positive rate below 0.3.
    """
    weights, regions = region_weights(masks)
    normal = np.sort(maps[~masks].numpy())
    inside, order = maps[masks].sort()
    above = np.r_[weights[order].flip(0).cumsum(0).flip(0).numpy(), 0] / regions
    low, high = (float(end) for end in maps.aminmax())
    if low == high:
        return float("nan")
    thresholds = np.arange(low, high, (high - low) / steps)
    fpr = 1 - np.searchsorted(normal, thresholds, side="right") / len(normal)
    pro = above[np.searchsorted(inside.numpy(), thresholds, side="right")]
    used = fpr < FPR_LIMIT
    if not used.any() or np.ptp(fpr[used]) == 0:
        return float("nan")
    scaled = (fpr[used] - fpr[used].min()) / np.ptp(fpr[used])
    return float(-np.trapezoid(pro[used], scaled))


def scores_by_epoch(
    lesson: Lesson, auxiliary: FeatureCache, index: np.ndarray, epochs: int, seeds: int
) -> np.ndarray:
    """Image scores (S, E, n) of a lesson's images after each epoch of short trainings, a training a seed."""
    everything = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = FAPrompt(lesson.backbone.text_tower, lesson.profile.model, lesson.backbone.patch_width)
        changes = {"epochs": epochs, "seed": seed, "keep_epochs": []}
        settings = lesson.profile.training.model_copy(update=changes)
        found: list[np.ndarray] = []

        def remember(model: FAPrompt, found: list[np.ndarray] = found) -> dict[str, float]:
            found.append(image_scores(model, lesson, index))
            return {}

        with tempfile.TemporaryDirectory() as folder:
            train(model.to(lesson.device), auxiliary, settings, Path(folder), validate=remember)
        everything.append(np.stack(found))
    return np.stack(everything)


def image_scores(model: FAPrompt, lesson: Lesson, index: np.ndarray, batch: int = 64) -> np.ndarray:
    """Scores (n,) of a lesson's images under another model of the same backbone."""
    with torch.inference_mode():
        static = model.static_text()
        parts = [
            model(*lesson.cache.features(part, lesson.device), static, lesson.cache.seeds(part)).score.cpu()
            for part in np.array_split(index, -(-len(index) // batch))
        ]
    return torch.cat(parts).numpy()


def shuffled(labels: np.ndarray, groups: dict[str, np.ndarray], draws: int, seed: int = 0) -> np.ndarray:
    """Labels (draws, n) in which each category's own are dealt out anew: there is nothing left to find."""
    random = np.random.default_rng(seed)
    found = np.repeat(labels[None], draws, axis=0)
    for own in groups.values():
        found[:, own] = random.permuted(found[:, own], axis=1)
    return found


def gain_by_choice(figures: np.ndarray) -> float:
    """How far the best of all epochs and seeds (S, E) lies above the mean of the last epochs."""
    return float(figures.max() - figures[:, -1].mean())
