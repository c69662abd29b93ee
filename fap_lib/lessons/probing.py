"""Questions to learned prompts: do they differ, which finds what, and what if the prior were another one?

Letters: B images, N patches, K prompts, C = 2 classes, D feature width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from fap_lib.cap import prototype
from fap_lib.data.features import FeatureCache
from fap_lib.evaluation.patches import auroc, covered
from fap_lib.lessons.lesson import Lesson
from fap_lib.model import FAPrompt, Prediction, StaticText, class_logits


@dataclass(frozen=True)
class Evidence:
    """What prompts say about some images, and what is true. Everything is on the CPU.

    label: (B,) 0 normal, 1 anomalous. anomalous: (B, N) bool, patches under the mask.
    maps: (B, K, N) abnormal probability under each single static prompt.
    """

    label: np.ndarray
    defects: list[str]
    anomalous: Tensor
    maps: Tensor
    prediction: Prediction

    @property
    def static(self) -> Tensor:
        """(B, N) abnormal probability under the static prototype."""
        return self.prediction.static[..., 1]

    @property
    def adapted(self) -> Tensor:
        """(B, N) abnormal probability under the adapted prototype."""
        return self.prediction.adapted[..., 1]


def even_sample(cache: FeatureCache, patches: int = 200_000) -> np.ndarray:
    """Indices of images spread evenly over a dataset that together have at most so many patches; all of
    them where they fit."""
    most = max(1, patches // cache.patches.shape[1])
    if most >= len(cache):
        return np.arange(len(cache))
    return np.unique(np.linspace(0, len(cache) - 1, most).round().astype(int))


def ask(lesson: Lesson, index: Sequence[int] | np.ndarray | None = None, batch: int = 32) -> Evidence:
    """Ask a lesson's prompts about its images, in one pass over the cached features.

    Args:
        index: which images; all of them by default.
    """
    cache, model = lesson.cache, lesson.model
    places = np.arange(len(cache)) if index is None else np.array(index)
    predictions, maps, anomalous = [], [], []
    with torch.inference_mode():
        static = model.static_text()
        for start in range(0, len(places), batch):
            part = places[start : start + batch]
            image, patches = cache.features(part, lesson.device)
            predictions.append(model(image, patches, static, cache.seeds(part)))
            maps.append(model.prompt_maps(patches, static).cpu())
            anomalous.append(covered(cache.masks(part), cache.grid))
    records = [cache.records[place] for place in places]
    return Evidence(
        np.array([record.label for record in records]),
        [record.defect for record in records],
        torch.cat(anomalous),
        torch.cat(maps),
        _joined(predictions),
    )


def _joined(parts: list[Prediction]) -> Prediction:
    """Predictions of batches as one, on the CPU."""

    def join(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values).cpu()

    return Prediction(**{name: join(name) for name in Prediction._fields})


def contrast(maps: Tensor, anomalous: Tensor) -> Tensor:
    """(B,) by how much the mean value on a defect is above that of the rest of its image.

    Args:
        maps: (B, N). anomalous: (B, N) bool.
    """
    bad = anomalous.float()
    on_defect = (maps * bad).sum(1) / bad.sum(1).clamp(min=1)
    elsewhere = (maps * (1 - bad)).sum(1) / (1 - bad).sum(1).clamp(min=1)
    return on_defect - elsewhere


def by_contrast(maps: Tensor, anomalous: Tensor) -> list[int]:
    """The images with a defect, that of the least contrast first: the one in the middle is typical."""
    members = anomalous.any(1).nonzero().flatten()
    ranked: list[int] = members[contrast(maps, anomalous)[members].argsort()].tolist()
    return ranked


def pairs(features: Tensor) -> Tensor:
    """Cosines of the K(K-1)/2 pairs of features: (..., K, D) to (..., K(K-1)/2), in [-1, 1]."""
    unit = F.normalize(features, dim=-1)
    first, second = torch.triu_indices(features.shape[-2], features.shape[-2], 1)
    return (unit @ unit.mT)[..., first, second]


def agreement(maps: Tensor) -> Tensor:
    """Pearson correlations of the maps of K prompts, over all patches of all images: (B, K, N) to (K, K)."""
    return torch.corrcoef(maps.transpose(0, 1).flatten(1))


def by_group(maps: Tensor, anomalous: Tensor, groups: Sequence[str]) -> pd.DataFrame:
    """Patch AUROC of each of K maps within each group of images: a row a group, a column a map.

    Args:
        maps: (B, K, N). anomalous: (B, N) bool. groups: (B,), such as defects; those without both kinds of
            patches are left out.
    """
    rows = {}
    for group in sorted(set(groups)):
        members = torch.tensor([name == group for name in groups])
        values = [auroc(one, anomalous[members]) for one in maps[members].unbind(1)]
        if None not in values:
            rows[group] = values
    return pd.DataFrame.from_dict(rows, orient="index")


def held_out(
    maps: Tensor,
    whole: Tensor,
    anomalous: Tensor,
    groups: Sequence[str],
    rounds: int = 4,
    least: int = 8,
    seed: int = 0,
) -> dict[str, float]:
    """Is there a specialist for each group? Choose the best map on half of its images, test it on the rest.

    Args:
        maps: (B, K, N). whole: (B, N), the map to beat. least: smaller groups are left out.

    Returns:
        Means over groups and rounds: `chosen`, AUROC of the chosen map over `whole` on the other half;
        `hindsight`, the same for the map that is best on that other half; `same`, how often both are one.
    """
    random = np.random.default_rng(seed)
    every = torch.cat([whole[:, None], maps], dim=1)
    found = []
    for _ in range(rounds):
        half = np.empty(len(groups), dtype=int)
        for group in sorted(set(groups)):
            members = np.flatnonzero([name == group for name in groups])
            half[random.permutation(members)] = np.arange(len(members)) % 2
        names = [f"{group}|{side}" for group, side in zip(groups, half, strict=True)]
        table = by_group(every, anomalous, names)
        for group in sorted(set(groups)):
            sides = [f"{group}|0", f"{group}|1"]
            if list(groups).count(group) >= least and set(sides) <= set(table.index):
                choice, other = table.loc[sides[0]].to_numpy(), table.loc[sides[1]].to_numpy()
                best, right = choice[1:].argmax(), other[1:].argmax()
                found.append((other[1 + best] - other[0], other[1 + right] - other[0], best == right))
    return dict(zip(("chosen", "hindsight", "same"), np.mean(found, axis=0).tolist(), strict=True))


def under(
    model: FAPrompt, image: Tensor, patches: Tensor, static: StaticText, prior: Tensor
) -> tuple[Tensor, Tensor]:
    """What the adapted prompts say under a prior of our choice, instead of the image's own.

    Args:
        image: (B, D). patches: (B, N, D). prior: (B, width), or (1, width) for one that all share.

    Returns:
        Abnormal probabilities of patches (B, N) and of the global feature (B,).
    """
    abnormal = prototype(model.adapted_text(static.prefix, prior)).expand(len(image), -1)
    text = torch.stack([static.normal.expand_as(abnormal), abnormal], dim=1)  # (B, C, D)
    temperature = model.settings.temperature
    both = (class_logits(features, text, temperature) for features in (patches, image[:, None]))
    on_patches, on_image = (logits.softmax(-1)[..., 1] for logits in both)
    return on_patches, on_image[:, 0]
