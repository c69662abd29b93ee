"""Small measures of where a map or an attention points, for a handful of images.

Letters: B images, N patches on a g x g grid, L = 1 + N tokens.
"""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from fap_lib.data.manifest import Record

COVERED = 0.1
"""A patch counts as anomalous where the mask covers this share of it or more."""


def handful(records: list[Record], patches: int, budget: int = 2000) -> list[int]:
    """Indices of a few images that together have about `budget` patches, 2 to 16 of them.

    Spread over the anomalous images with masks; over all images where there are none.

    Args:
        patches: N, patches of an image.
    """
    places = [index for index, record in enumerate(records) if record.mask] or list(range(len(records)))
    count = min(len(places), max(2, min(16, budget // patches)))
    return [places[len(places) * number // count] for number in range(count)]


def covered(masks: Tensor, grid: int) -> Tensor:
    """Which patches are anomalous: masks (B, H, W) to (B, N) bool."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), grid).flatten(1) >= COVERED


def auroc(abnormal: Tensor, anomalous: Tensor) -> float | None:
    """AUROC of probabilities of any shape, such as (B, N) of patches; None where only one class exists.

    0.5 is chance; below it the map points away from the defects.
    """
    labels = anomalous.flatten().numpy()
    if labels.all() or not labels.any():
        return None
    from sklearn.metrics import roc_auc_score  # a second, which only a measure is worth

    return float(roc_auc_score(labels, abnormal.flatten().float().cpu().numpy()))


def attention_lift(weights: Tensor, anomalous: Tensor) -> float | None:
    """How much more an anomalous patch attends to anomalous patches than an even attention would.

    1 is no preference. The mean over images with both kinds of patches; None without such an image.

    Args:
        weights: (B, heads, L, L) attention, rows sum to 1, the class token first.
        anomalous: (B, N) bool.
    """
    lifts = []
    for image, bad in zip(weights.mean(1)[:, 1:, 1:].cpu(), anomalous, strict=True):
        if bad.any() and not bad.all():
            rows = image[bad]
            lifts.append(float((rows[:, bad].sum(1) / rows.sum(1)).mean() / bad.float().mean()))
    return float(np.mean(lifts)) if lifts else None
