"""From cached features to scores, maps on disk, and tidy metrics.

Per image only the patch probabilities are kept (on disk, two small grids); pixel maps are made from
them in batches when something needs them, and never all at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fap_lib.core.config import ScoreSettings
from fap_lib.core.errors import KitError
from fap_lib.core.files import atomic
from fap_lib.core.progress import bar
from fap_lib.data.features import FeatureCache
from fap_lib.data.manifest import Record
from fap_lib.data.store import read_rows
from fap_lib.evaluation.metrics import image_metrics, pixel_metrics, undefined_pixel_metrics
from fap_lib.maps import pixel_maps
from fap_lib.model import FAPrompt, Prediction

MEAN = "mean"
"""The name, in the category column, of the unweighted mean over categories."""


class ImageSet(Protocol):
    """Images that were scored: records, and masks (b, S, S) bool at the scored size; as `FeatureCache`."""

    name: str
    root: Path
    records: list[Record]
    image_size: int

    @property
    def labels(self) -> list[int | None]: ...

    def masks(self, index: np.ndarray) -> Tensor: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Scores:
    """Scores of one split of a dataset, or of any set of images.

    image: (n,) image scores; probability: (n,) global abnormal probabilities; both in [0, 1].
    patches: (n, 2, N) abnormal probability of each patch, static and adapted; a memory map.
    """

    cache: ImageSet
    image: np.ndarray
    probability: np.ndarray
    patches: np.ndarray

    def maps(self, index: np.ndarray, sigma: float) -> Tensor:
        """Anomaly maps (b, H, W) of some images: mean of both maps, resized and smoothed."""
        values = torch.from_numpy(read_rows(self.patches, index)).mean(dim=1)  # (b, 2, N) to (b, N)
        return pixel_maps(values, self.cache.image_size, sigma)


def score(model: FAPrompt, cache: FeatureCache, settings: ScoreSettings, path: Path) -> Scores:
    """Score a cached dataset; the patch probabilities go to the `.npy` file `path`.

    Raises:
        KitError: no GPU memory left, a full disk.
    """
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode():
        static = model.static_text()

    def predict(index: np.ndarray) -> Prediction:
        return model(*cache.features(index, device), static, cache.seeds(index))

    return score_with(predict, cache, settings, path)


def score_with(
    predict: Callable[[np.ndarray], Prediction], cache: FeatureCache, settings: ScoreSettings, path: Path
) -> Scores:
    """Score a cached dataset with any predictor of image indices, such as `evaluation.baselines` has."""
    count = len(cache)
    image, probability = np.empty(count, np.float32), np.empty(count, np.float32)
    shape = (count, 2, cache.patches.shape[1])
    with atomic(path) as temporary, torch.inference_mode(), open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "<f4"})
        starts = range(0, count, settings.batch_size)
        for start in bar(starts, f"scoring {cache.name}", len(starts)):
            index = np.arange(start, min(start + settings.batch_size, count))
            try:
                prediction = predict(index)
            except torch.cuda.OutOfMemoryError as error:
                raise KitError(
                    f"the GPU has no memory left to score {settings.batch_size} images at once; "
                    f"set batch_size to {max(1, settings.batch_size // 2)}."
                ) from error
            image[index] = prediction.score.cpu()
            probability[index] = prediction.image_probability.cpu()
            both = torch.stack([prediction.static[..., 1], prediction.adapted[..., 1]], dim=1)  # (b, 2, N)
            file.write(both.float().cpu().numpy().tobytes())
    return Scores(cache, image, probability, np.load(path, mmap_mode="r"))


def evaluate(scores: Scores, settings: ScoreSettings) -> list[dict[str, Any]]:
    """Tidy metrics of a scored dataset: one row a category and metric, then the means.

    Columns: dataset, category, level, metric, definition, value (or None), error (bound), reason,
    images. The mean is over categories, and undefined where one of them is.
    """
    cache = scores.cache
    by_category: dict[str, list[int]] = {}
    for position, record in enumerate(cache.records):
        by_category.setdefault(record.category, []).append(position)

    rows = []
    for category, members in bar(by_category.items(), f"metrics of {cache.name}", len(by_category)):
        index = np.array(members)
        for metric in [*_image(scores, index), *_pixel(scores, index, settings)]:
            values = asdict(metric)
            row = {"dataset": cache.name, "category": category, "level": values.pop("level")}
            rows.append({**row, "metric": values.pop("name"), **values, "images": len(index)})
    return rows + _means(rows, len(cache))


def _image(scores: Scores, index: np.ndarray) -> list:
    labels = [scores.cache.records[i].label for i in index]
    known = np.array([label is not None for label in labels])
    return image_metrics(
        np.array([label for label in labels if label is not None]), scores.image[index[known]]
    )


def _pixel(scores: Scores, index: np.ndarray, settings: ScoreSettings) -> list:
    cache = scores.cache
    lacking = sum(cache.records[i].label != 0 and cache.records[i].mask is None for i in index)
    if lacking:
        return undefined_pixel_metrics(f"{lacking} of {len(index)} images are not normal and have no mask")

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(index), settings.batch_size):
            part = index[start : start + settings.batch_size]
            yield scores.maps(part, settings.sigma), cache.masks(part)

    return pixel_metrics(batches)


def _means(rows: list[dict[str, Any]], images: int) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["level"], row["metric"]), []).append(row)
    means = []
    for group in groups.values():
        undefined = [row for row in group if row["value"] is None]
        mean = {**group[0], "category": MEAN, "images": images}
        if undefined:
            first = undefined[0]
            mean |= {
                "value": None,
                "error": 0.0,
                "reason": f"undefined for {first['category']}: {first['reason']}",
            }
        else:
            mean |= {key: float(np.mean([row[key] for row in group])) for key in ("value", "error")}
        means.append(mean)
    return means
