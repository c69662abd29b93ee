"""Image and pixel metrics, streamed: memory does not grow with the dataset.

Pixel metrics need the ranking of all pixels of a category, hundreds of millions of them. Two passes
over the maps replace the sort. The first counts pixels in about a million coarse bins (the upper 20
bits of the float); the second divides these into about a million fine ones, most where normal and
anomalous pixels mix. A bin that holds only one kind, or a single float, costs nothing; what the others
can cost at most is summed, and stands beside each value.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

FPR_LIMIT = 0.3
"""AUPRO integrates up to this false positive rate."""

OFFICIAL_STEPS = 200
_COARSE_SHIFT = 12  # lower bits of a float32 that a coarse bin spans
_COARSE = 1 << (32 - _COARSE_SHIFT)
_FINEST = 1 << _COARSE_SHIFT
_FINE_TOTAL = 1 << 20

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Starts a pass over a category: batches of maps (b, H, W) float32 and masks (b, H, W) bool."""


@dataclass(frozen=True)
class Metric:
    """One figure in [0, 1], or the reason why there is none.

    error: the true value lies within `value` plus or minus this; 0 where it was computed exactly.
    """

    level: Literal["image", "pixel"]
    name: str
    definition: str
    value: float | None
    error: float = 0.0
    reason: str = ""


_IMAGE = {"auroc": "area under ROC", "ap": "average precision", "f1_max": "largest F1"}
_PIXEL = {
    "auroc": "area under ROC, all pixels of a category",
    "ap": "average precision, all pixels of a category",
    "f1_max": "largest F1, all pixels of a category",
    "aupro_official": "official: 200 thresholds, FPR below 0.3 rescaled to its own range",
    "aupro_exact": "exact: all thresholds, interpolated at FPR 0.3",
}


def image_metrics(labels: np.ndarray, scores: np.ndarray) -> list[Metric]:
    """AUROC, average precision and largest F1 of image scores (n,) against labels (n,) in {0, 1}."""
    if len(labels) == 0:
        return _undefined("image", _IMAGE, "no image has a label")
    if len(np.unique(labels)) < 2:
        kind = "anomalous" if np.all(labels) else "normal"
        return _undefined("image", _IMAGE, f"all images are {kind}")
    # Not at the top: scikit-learn takes a second to import, and most steps have no use for it.
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    values = (roc_auc_score(labels, scores), average_precision_score(labels, scores), f1.max())
    return [
        Metric("image", name, _IMAGE[name], float(value)) for name, value in zip(_IMAGE, values, strict=True)
    ]


def pixel_metrics(batches: Batches) -> list[Metric]:
    """AUROC, AP, largest F1, and AUPRO in both definitions, over all pixels of one category.

    Source of the official AUPRO: `metrics.py:6-30`; regions are 8-connected.
    """
    coarse = _Coarse()
    for maps, masks in batches():
        coarse.add(maps, masks)
    positive, every = coarse.positive.sum(), coarse.every.sum()
    if positive in (0, every):
        kind = "normal" if positive == 0 else "anomalous"
        return _undefined("pixel", _PIXEL, f"all pixels are {kind}")
    fine = _Fine(coarse)
    for maps, masks in batches():
        fine.add(maps, masks)
    return fine.metrics()


def pro_curve(maps: Tensor, masks: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """False positive rate and per-region overlap at every threshold, from the highest, by sorting all pixels.

    For a few images, to see what `pixel_metrics` computes without a sort: the mean over regions of the
    share of their pixels above the threshold, against the share of normal pixels above it.

    Args:
        maps: (b, H, W). masks: (b, H, W) bool, some pixels of each kind.
    """
    weights, regions = region_weights(masks)
    overlap = torch.zeros(maps.numel(), dtype=torch.float64)
    overlap[masks.flatten()] = weights / regions
    score, order = maps.flatten().sort(descending=True)
    normal = (~masks.flatten()[order]).double()
    last = torch.cat([score[1:] != score[:-1], torch.tensor([True])])  # equal scores are passed together
    fpr, pro = normal.cumsum(0) / normal.sum(), overlap[order].cumsum(0)
    return np.r_[0, fpr[last].numpy()], np.r_[0, pro[last].numpy()]


def undefined_pixel_metrics(reason: str) -> list[Metric]:
    """All pixel metrics as undefined, for data without masks."""
    return _undefined("pixel", _PIXEL, reason)


def _undefined(level: Literal["image", "pixel"], names: dict[str, str], reason: str) -> list[Metric]:
    return [Metric(level, name, definition, None, 0.0, reason) for name, definition in names.items()]


def _keys(maps: Tensor) -> Tensor:
    """Integers in the order of the floats: the bits, with those of negative numbers turned round."""
    bits = (maps.contiguous().flatten() + 0.0).view(torch.int32)  # + 0.0 makes -0.0 equal to 0.0
    return bits.bitwise_xor_((bits >> 31).bitwise_and_(0x7FFFFFFF))


def _inside(masks: Tensor) -> Tensor:
    """Places of the anomalous pixels of masks (b, H, W) bool, in raster order."""
    return masks.flatten().nonzero().squeeze(1)


def _count(counts: Tensor, bins: Tensor) -> None:
    """Add one for each of a few pixels. (For many, a histogram and a sum over all bins is faster.)"""
    counts.index_add_(0, bins, counts.new_ones(()).expand(len(bins)))


class _Histogram:
    """Counts of bins. Pixels wait until there are as many of them: a sum over all bins costs as much."""

    def __init__(self, count: int):
        self._counts = torch.zeros(count, dtype=torch.int64)
        self._waiting: list[Tensor] = []

    def add(self, bins: Tensor) -> None:
        self._waiting.append(bins)
        if sum(map(len, self._waiting)) >= len(self._counts):
            self.counts()

    def counts(self) -> Tensor:
        """Pixels of each bin so far, int64 on the CPU."""
        if self._waiting:
            self._counts += torch.bincount(torch.cat(self._waiting), minlength=len(self._counts)).cpu()
            self._waiting.clear()
        return self._counts


class _Coarse:
    """First pass: counts per coarse bin, and the range of the maps."""

    def __init__(self) -> None:
        self._every = _Histogram(_COARSE)
        self.positive = torch.zeros(_COARSE, dtype=torch.int64)
        self.low, self.high = np.float32(np.inf), np.float32(-np.inf)

    def add(self, maps: Tensor, masks: Tensor) -> None:
        # One by one: what is between a map and its bins stays in the processor's cache.
        bins = torch.cat([coarse_bins(_keys(one)) for one in maps])
        self._every.add(bins)
        _count(self.positive, bins.index_select(0, _inside(masks)).cpu())
        low, high = maps.aminmax()
        self.low, self.high = min(self.low, np.float32(low.cpu())), max(self.high, np.float32(high.cpu()))

    @property
    def every(self) -> Tensor:
        return self._every.counts()


def coarse_bins(keys: Tensor) -> Tensor:
    """Coarse bin of each key, 0 to 2^20 - 1."""
    return (keys >> _COARSE_SHIFT).add_(_COARSE // 2)


def _divisions(negative: Tensor, positive: Tensor) -> Tensor:
    """Into how many fine bins to divide each coarse bin.

    The error of AUROC grows with the product of a bin's two counts. That of AP grows with the change of
    precision inside the bin, times its anomalous pixels. Divisions in proportion to the square root of
    an error make its sum least; each of the two gets half of them.
    """
    used = (negative + positive).nonzero().squeeze(1)
    negative, positive = negative[used], positive[used]
    above_n, above_p = (count.flip(0).cumsum(0).flip(0) for count in (negative, positive))
    ranked = (above_n + above_p).clamp(min=1)
    product = negative * positive
    change = positive * (negative * above_p + positive * above_n) / ranked**2
    wanted = torch.zeros_like(product)
    for error in (product, change):
        root = error.sqrt()
        wanted += root * (_FINE_TOTAL / 2 / root.sum().clamp(min=1e-300))
    divisions = torch.zeros(_COARSE, dtype=torch.int32)  # none for bins without pixels
    divisions[used] = wanted.ceil().clamp(1, _FINEST).to(torch.int32)
    return divisions


def official_thresholds(low: np.float32, high: np.float32) -> np.ndarray:
    """The 200 (or 201, by rounding) thresholds of the official AUPRO, as float32.

    There is one alone where the step between them is 0: at equal scores, or a span of a few of the smallest
    floats. NumPy makes them in float64. A float32 exceeds a float64 exactly if it exceeds the largest float32
    that is not above it, so they are rounded down.
    """
    step = (high - low) / OFFICIAL_STEPS
    if step == 0:
        return np.array([low])
    exact = np.arange(low, high, step)
    rounded = exact.astype(np.float32)
    return np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded)


class _Fine:
    """Second pass: counts per fine bin; and, for the few pixels whose bin holds an official threshold, how
    many of the thresholds they exceed. For all others their bin says it."""

    def __init__(self, coarse: _Coarse):
        divisions = _divisions((coarse.every - coarse.positive).double(), coarse.positive.double())
        starts = divisions.cumsum(0, dtype=torch.int32) - divisions
        self.divisions, self.starts = divisions, starts
        self.single = (divisions == _FINEST).repeat_interleave(divisions).numpy()  # bins of one float each
        self.count = len(self.single)
        self._every = _Histogram(self.count)
        self.positive = torch.zeros(self.count, dtype=torch.int64)
        self.overlap = torch.zeros(self.count, dtype=torch.float64)

        self.thresholds = torch.from_numpy(official_thresholds(coarse.low, coarse.high))
        # A threshold in an empty coarse bin is given the next fine bin; one above all pixels (by rounding
        # there can be one) the last.
        self.threshold_bins = self._bins(_keys(self.thresholds)).long().clamp(max=self.count - 1)
        self.near = torch.zeros(self.count, dtype=torch.bool)  # bins that hold a threshold
        self.near[self.threshold_bins] = True
        self.exceeded = torch.zeros(len(self.thresholds) + 1, dtype=torch.int64)
        self.exceeded_overlap = torch.zeros(len(self.thresholds) + 1, dtype=torch.float64)
        self.regions = 0

    def _bins(self, keys: Tensor) -> Tensor:
        """Fine bin of each key; a higher key is never in a lower bin."""
        coarse = coarse_bins(keys)
        divisions, starts = (
            each.to(keys.device).index_select(0, coarse) for each in (self.divisions, self.starts)
        )
        within = divisions.mul_(keys & (_FINEST - 1)).bitwise_right_shift_(_COARSE_SHIFT)
        return starts.add_(within)

    def add(self, maps: Tensor, masks: Tensor) -> None:
        scores, inside = maps.flatten(), _inside(masks)
        bins = torch.cat([self._bins(_keys(one)) for one in maps])
        self._every.add(bins)
        near = self.near.to(bins.device).index_select(0, bins)
        # Of anomalous pixels, of which there are few:
        own_bins, own_scores, own_near = (values.index_select(0, inside) for values in (bins, scores, near))
        own_bins, own_near = own_bins.cpu(), own_near.cpu()
        weights, regions = region_weights(masks)
        self.regions += regions
        _count(self.positive, own_bins)
        self.overlap.index_add_(0, own_bins, weights)
        thresholds = self.thresholds.to(maps.device)
        level = torch.bucketize(own_scores, thresholds).cpu()[own_near]
        self.exceeded_overlap.index_add_(0, level, weights[own_near])
        # Of normal ones near a threshold: of all, less the anomalous.
        every = torch.bucketize(scores.index_select(0, near.nonzero().squeeze(1)), thresholds).cpu()
        _count(self.exceeded, every)
        self.exceeded.index_add_(0, level, -torch.ones_like(level))

    @property
    def every(self) -> Tensor:
        return self._every.counts()

    def metrics(self) -> list[Metric]:
        used = np.flatnonzero(self.every.numpy())[::-1]
        p = self.positive.numpy()[used].astype(np.float64)
        n = self.every.numpy()[used] - p
        w = self.overlap.numpy()[used] / self.regions
        open_bins = ~self.single[used]  # bins in which the order of pixels is not known
        tp, fp, pro = p.cumsum(), n.cumsum(), w.cumsum()
        total_p, total_n = tp[-1], fp[-1]

        auroc = float((n * (tp - p / 2)).sum() / (total_p * total_n))
        auroc_error = float((p * n)[open_bins].sum() / (2 * total_p * total_n))

        precision = tp / np.maximum(tp + fp, 1)
        ap = float((p * precision).sum() / total_p)
        # Within an open bin, precision is highest with all anomalous pixels first, lowest with them last.
        best = tp / np.maximum(tp + fp - n, 1)
        worst = (tp - p + 1) / (tp - p + 1 + fp)
        over = (p * (np.minimum(best, 1) - precision))[open_bins].sum() / total_p
        under = (p * (precision - worst))[open_bins].sum() / total_p

        f1 = 2 * tp / (total_p + tp + fp)
        highest = np.where(open_bins, 2 * tp / (total_p + tp + fp - n), f1)

        fpr = fp / total_n
        exact = _area(np.r_[0, fpr], np.r_[0, pro]) / FPR_LIMIT
        reached = fpr - n / total_n < FPR_LIMIT
        exact_error = float((w * n)[open_bins & reached].sum() / (2 * total_n * FPR_LIMIT))

        values = {
            "auroc": (auroc, auroc_error),
            "ap": (ap, float(max(over, under, 0))),
            "f1_max": (float(f1.max()), float(highest.max() - f1.max())),
            "aupro_exact": (exact, exact_error),
        }
        metrics = {name: Metric("pixel", name, _PIXEL[name], *value) for name, value in values.items()}
        metrics["aupro_official"] = self._official_aupro(total_n)
        return [metrics[name] for name in _PIXEL]

    def _official_aupro(self, total_n: float) -> Metric:
        name, definition = "aupro_official", _PIXEL["aupro_official"]
        if len(self.thresholds) == 1:
            reason = "all pixels have the same score, or nearly so"
            return Metric("pixel", name, definition, None, 0.0, reason)
        fpr = self._above(self.every - self.positive, self.exceeded) / total_n
        pro = self._above(self.overlap, self.exceeded_overlap) / self.regions
        low = fpr < FPR_LIMIT
        span = fpr[low].max() - fpr[low].min() if low.any() else 0
        if span == 0:
            reason = "fewer than two of the 200 thresholds have a false positive rate below 0.3"
            return Metric("pixel", name, definition, None, 0.0, reason)
        scaled = (fpr[low] - fpr[low].min()) / span
        return Metric("pixel", name, definition, float(-np.trapezoid(pro[low], scaled)))

    def _above(self, binned: Tensor, exceeded: Tensor) -> np.ndarray:
        """Sum over the pixels above each threshold: those in higher bins, and those of `exceeded`."""
        far = binned.masked_fill(self.near, 0)
        higher = far.sum() - far.cumsum(0)[self.threshold_bins]
        # A pixel exceeds the first so many thresholds: a sum from the right counts it for each of them.
        return (higher + exceeded.flip(0).cumsum(0).flip(0)[1:]).numpy()


def _area(fpr: np.ndarray, pro: np.ndarray) -> float:
    """Area under PRO over FPR from 0 to the limit, linear between points."""
    end = int(np.searchsorted(fpr, FPR_LIMIT, side="right"))
    if end < len(fpr):
        last = np.interp(FPR_LIMIT, fpr[end - 1 : end + 1], pro[end - 1 : end + 1])
        fpr, pro = np.r_[fpr[:end], FPR_LIMIT], np.r_[pro[:end], last]
    return float(np.trapezoid(pro, fpr))


def region_weights(masks: Tensor) -> tuple[Tensor, int]:
    """One over its region's area for each anomalous pixel, in raster order; and the number of regions."""
    weights, regions = [torch.zeros(0, dtype=torch.float64)], 0
    for mask in masks.cpu().numpy():
        if mask.any():
            labels, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
            inside = labels[mask]
            weights.append(torch.from_numpy(1.0 / np.bincount(inside)[inside]))
            regions += count
    return torch.cat(weights), regions
