"""What the differences between paper and released code (`ledger.yaml`) do to results.

Three ways: trainings with one setting changed (the study of the mini world, with intervals); the same prompts
scored in another way (no training, no interval); and rows about which a computation or an argument says all.
"""

import io
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fap_lib.clip.text_tower import Prefix
from fap_lib.core.numbers import plus_minus
from fap_lib.data.features import FeatureCache
from fap_lib.data.images import binarise, load_image, open_image, rgb
from fap_lib.evaluation.metrics import image_metrics, pixel_metrics
from fap_lib.lessons import study
from fap_lib.lessons.lesson import Lesson
from fap_lib.lessons.probing import ask
from fap_lib.losses import image_focal_loss
from fap_lib.maps import pixel_maps
from fap_lib.model import FAPrompt, Prediction, StaticText
from fap_lib.official.ledger import rows

How = Literal["study", "scoring", "computed", "argued"]

STUDIED: dict[str, dict[str, str]] = {
    "patch-selection": {"CAP + DAP, released": "first patches, trained and scored so"},
    "deep-tokens-overwrite": {"no deep tokens": "no deep tokens at all"},
    "token-lengths": {"E' = 1": "E' = 1 (first upload)", "E = 12": "E = 12 (the ignored option)"},
    "image-loss": {"no image cross-entropy": "no cross-entropy (first upload)"},
    "score-weights": {"adapted map weighs 1": "adapted map's loss weighs 1"},
    "orthogonality-scope": {"no orthogonality": "no orthogonality loss"},
    "prior-loss-sum": {"no prior loss": "no prior loss"},
    "abnormal-word": {"no word for damage": "no word for damage"},
    "stopping-epoch": {"half the epochs": "half the epochs", "twice the epochs": "twice the epochs"},
}
"""Ledger rows with trainings in the study: its method, and what that changes against CAP + DAP, paper."""

ARGUED = {
    "multi-scale": "nothing to switch: how scales would be combined is not known",
    "deep-layers": "none: before the first block the tokens are learnable already; a ninth set adds nothing",
    "class-names": "none: category names never enter a prompt; there it decides whether the code runs",
}
"""Rows about which an argument is all there is."""

OTHER_SIGMA = 4 / 518
"""AnomalyCLIP's smoothing, as a share of the image's side."""

KEPT = 4
"""For `missing-masks` every fourth anomalous image loses its mask."""


@dataclass(frozen=True)
class Effect:
    """What one change does, against the kit's default.

    points: differences by metric (`study.COMPARED`), in points; half: half widths of 95 % intervals,
    where there are several trainings. note: what was computed or argued, or what to know about the figures.
    """

    row: str
    change: str
    how: How
    points: dict[str, float] = field(default_factory=dict)
    half: dict[str, float] = field(default_factory=dict)
    note: str = ""


# Trainings


def studied(results: pd.DataFrame) -> list[Effect]:
    """Rows with trainings; those without a run yet have no points, and say so.

    Args:
        results: the study's runs, as `study.load_study` reads them.
    """
    methods = tuple(method for each in STUDIED.values() for method in each)
    found = study.differences(results, methods).set_index(["method", "metric"])
    known = set(found.index.get_level_values(0))
    effects = []
    for row, changes in STUDIED.items():
        for method, change in changes.items():
            if method in known:
                own = found.loc[method]
                note = f"{own.runs.iloc[0]} runs"
                effects.append(
                    Effect(row, change, "study", own["mean"].to_dict(), own["pooled"].to_dict(), note)
                )
            else:
                effects.append(Effect(row, change, "study", note="no run in the committed study"))
    return effects


# The same prompts, scored in another way


@dataclass(frozen=True)
class Scored:
    """What is needed to measure images: their index in a cache (n,), scores (n,), maps of patches (n, N),
    masks (n, H, W) bool, and the smoothing's sigma."""

    index: np.ndarray
    image: np.ndarray
    patches: Tensor
    masks: Tensor
    sigma: float


def figures(cache: FeatureCache, scored: Scored) -> dict[str, float]:
    """Means over categories of the compared metrics and of `aupro_exact`, in [0, 1]."""
    records = [cache.records[place] for place in scored.index]
    categories = np.array([record.category for record in records])
    labels = np.array([record.label for record in records])
    found = []
    for category in dict.fromkeys(categories):
        own = np.flatnonzero(categories == category)
        maps = pixel_maps(scored.patches[own], cache.image_size, scored.sigma)
        pixels = pixel_metrics(partial(iter, [(maps, scored.masks[own])]))
        metrics = [*image_metrics(labels[own], scored.image[own]), *pixels]
        found.append({f"{m.level}_{m.name}".replace("pixel_aupro", "aupro"): m.value for m in metrics})
    names = [*study.COMPARED, "aupro_exact"]
    means: dict[str, float] = pd.DataFrame(found)[names].astype(float).mean().to_dict()
    return means


def rescored(lesson: Lesson, every: int = 2) -> list[Effect]:
    """Rows that can be seen by scoring a lesson's prompts in another way; training stays as it was.

    Args:
        every: which images are looked at, every so-many'th.
    """
    cache, sigma = lesson.cache, lesson.profile.scoring.sigma
    index = np.arange(0, len(cache), every)
    base, masks = predict(lesson, index), cache.masks(index)
    plain = Scored(index, base.score.numpy(), base.patch_map, masks, sigma)
    default = figures(cache, plain)

    def against(row: str, change: str, scored: Scored, note: str = "") -> Effect:
        own = figures(cache, scored)
        points = {name: 100 * (own[name] - default[name]) for name in study.COMPARED}
        return Effect(row, change, "scoring", points, note=note)

    def other(row: str, change: str, prediction: Prediction) -> Effect:
        note = f"an image score moves by {(prediction.score - base.score).abs().mean():.3f} in the mean"
        scored = replace(plain, image=prediction.score.numpy(), patches=prediction.patch_map)
        return against(row, change, scored, note)

    def maxima(first: Tensor, second: Tensor, weight: float) -> Scored:
        largest = weight * first.flatten(1).amax(1) + (1 - weight) * second.flatten(1).amax(1)
        return replace(plain, image=((base.image_probability + largest) / 2).numpy())

    static, adapted = base.static[..., 1], base.adapted[..., 1]
    smooth = [pixel_maps(each, cache.image_size, sigma) for each in (static, adapted)]
    least = OTHER_SIGMA * cache.image_size
    moved = float((jpeg_masks(masks, "half") != masks).float().mean())
    exact = {"aupro_official": 100 * (default["aupro_exact"] - default["aupro_official"])}
    return [
        other(
            "patch-selection", "first patches, in scoring alone", predict(lesson, index, selection="first")
        ),
        other("patch-order", "ascending order, in scoring alone", predict(lesson, index, reverse=True)),
        other("prototype-mean", "unit length before the mean", predict(lesson, index, unit=True)),
        other("deep-token-rounding", "deep tokens in float16", predict(lesson, index, rounded=True)),
        against("score-weights", "maxima of both maps weigh alike", maxima(static, adapted, 1 / 2)),
        against("image-maximum", "maxima after resizing and smoothing", maxima(smooth[0], smooth[1], 2 / 3)),
        against("smoothing", f"sigma {least:.2g} for {sigma:.2g}", replace(plain, sigma=least)),
        Effect("aupro", "exact for official", "scoring", exact, note="only AUPRO has two definitions"),
        against(
            "mask-rule",
            "masks stored as JPEG, read by nonzero",
            replace(plain, masks=jpeg_masks(masks)),
            f"read by half, {moved:.2%} of all pixels change",
        ),
        against(
            "missing-masks",
            f"each {KEPT}th mask missing, taken for empty",
            replace(plain, masks=without_masks(masks)),
            "the kit calls pixel metrics undefined",
        ),
    ]


def predict(
    lesson: Lesson,
    index: np.ndarray,
    selection: Literal["most_abnormal", "first", "random"] | None = None,
    reverse: bool = False,
    unit: bool = False,
    rounded: bool = False,
) -> Prediction:
    """A lesson's prediction of some images, with one thing changed.

    Args:
        selection: the patches the prior sees. reverse: in reversed order. unit: abnormality features brought
            to unit length before their mean. rounded: deep tokens rounded to float16.
    """
    settings = lesson.model.settings
    if selection:
        settings = settings.model_copy(update={"selection": selection})
    kind = UnitBeforeMean if unit else FAPrompt
    model = kind(lesson.backbone.text_tower, settings, lesson.backbone.patch_width)
    model.load_state_dict(lesson.model.state_dict())
    model.to(lesson.device).eval()
    if reverse and model.prior_network is not None:
        model.prior_network.register_forward_pre_hook(lambda _, given: (given[0].flip(1),))
    if rounded:
        model.prompts.deep.data = model.prompts.deep.data.half().float()
    return ask(replace(lesson, model=model), index).prediction


class UnitBeforeMean(FAPrompt):
    """FAPrompt with its abnormality features brought to unit length (ledger: prototype-mean)."""

    def static_text(self, abnormal: Tensor | None = None) -> StaticText:
        static = super().static_text(abnormal)
        return static._replace(abnormal=F.normalize(static.abnormal, dim=-1))

    def adapted_text(self, prefix: Prefix, prior: Tensor) -> Tensor:
        return F.normalize(super().adapted_text(prefix, prior), dim=-1)


def jpeg_masks(masks: Tensor, rule: Literal["nonzero", "half"] = "nonzero", quality: int = 75) -> Tensor:
    """Masks (n, H, W) bool after they were stored as JPEG and read by a rule."""
    found = masks.clone()
    for place in masks.flatten(1).any(1).nonzero().flatten().tolist():
        stored = io.BytesIO()
        Image.fromarray(masks[place].numpy().astype(np.uint8) * 255).save(
            stored, format="JPEG", quality=quality
        )
        found[place] = torch.from_numpy(binarise(Image.open(stored), rule))
    return found


def without_masks(masks: Tensor, every: int = KEPT) -> Tensor:
    """Masks (n, H, W) of which every so-many'th that is not empty is emptied."""
    found = masks.clone()
    found[found.flatten(1).any(1).nonzero().flatten()[::every]] = False
    return found


# Computations


def focal_floors() -> tuple[float, float]:
    """The least image focal loss of a normal and of an anomalous image, at the best scores, 0 and 1."""
    normal, anomalous = (
        float(image_focal_loss(torch.tensor([float(label)]), torch.tensor([label]))) for label in (0, 1)
    )
    return normal, anomalous


def unused_parameters(text_width: int = 768, other_width: int = 896, layers: int = 8) -> int:
    """Parameters of the layers that the released code creates, saves and never uses (paper's sizes)."""
    return layers * (text_width * other_width + other_width)


def swapped_sides(width: int, height: int, size: int) -> bool:
    """Whether an all-zero mask with width and height exchanged is the same after its resize to a square."""
    masks = (Image.fromarray(np.zeros(shape, np.uint8)) for shape in ((height, width), (width, height)))
    first, second = (np.asarray(mask.resize((size, size), Image.Resampling.BILINEAR)) for mask in masks)
    return bool((first == second).all())


def resized_apart(lesson: Lesson) -> float:
    """The largest difference of a pixel between the two orders, for one image saved with 64 colours.

    Raises:
        AssertionError: the orders differ for the RGB image itself.
    """
    size = lesson.cache.image_size
    image = open_image(lesson.cache.root / lesson.cache.records[0].image).resize((2 * size, 2 * size))
    assert np.array_equal(rgb(image, size), rgb(image, size, stored=True))
    palette = image.quantize(64)
    first, last = (rgb(palette, size, stored).astype(int) for stored in (False, True))
    return float(np.abs(first - last).max())


def class_norm_difference(lesson: Lesson) -> float:
    """Cosine of one image's global feature with and without the last layer norm on the class token."""
    cache, settings = lesson.cache, lesson.profile.features
    pixels = load_image(cache.root / cache.records[0].image, cache.image_size)[None]
    towers = [
        lesson.backbone.image_tower(cache.image_size, settings.vv_blocks, norm) for norm in (False, True)
    ]
    with torch.no_grad():
        plain, normed = (tower(lesson.backbone.normalise(pixels)).image.float() for tower in towers)
    return float(F.cosine_similarity(plain, normed)[0])


def computed(lesson: Lesson) -> list[Effect]:
    """Rows about which a computation says all."""
    normal, anomalous = focal_floors()
    cosine = class_norm_difference(lesson)
    pooled = lesson.backbone.visual.pool_type == "avg"
    train = lesson.manifest.splits.get("train", [])
    damaged = sum(record.label == 1 for record in train)
    return [
        Effect(
            "image-focal-logit",
            "none to switch",
            "computed",
            note=f"floors {normal:.3f} (normal) and {anomalous:.3f} (anomalous)",
        ),
        Effect(
            "class-token-norm",
            "with the layer norm",
            "computed",
            note=f"cosine of an image's features {cosine:.3f}"
            + (" (mean-pooled tower: no class token in it)" if pooled else ""),
        ),
        Effect(
            "unused-projections",
            "with them",
            "computed",
            note=f"{unused_parameters():,} parameters at the paper's sizes, never read",
        ),
        Effect(
            "auxiliary-split",
            "train split for test split",
            "computed",
            note=f"{damaged} anomalous of {len(train)} images in {lesson.manifest.name}'s train split",
        ),
        Effect(
            "resize-order",
            "resized before it is RGB",
            "computed",
            note=f"a palette image's pixels move by up to {resized_apart(lesson):.0f} of 255, RGB by none",
        ),
        Effect(
            "normal-masks",
            "width and height exchanged",
            "computed",
            note="same mask after the resize"
            if swapped_sides(90, 60, 48)
            else "another mask after the resize",
        ),
    ]


# All together


def effects(lesson: Lesson, results: pd.DataFrame) -> list[Effect]:
    """Every ledger row's effects, in the ledger's order; some rows have several."""
    argued = [Effect(row, "-", "argued", note=note) for row, note in ARGUED.items()]
    found = [*studied(results), *rescored(lesson), *computed(lesson), *argued]
    order = [row.id for row in rows()]
    return sorted(found, key=lambda effect: order.index(effect.row))


def table(found: list[Effect]) -> pd.DataFrame:
    """Effects as text: a row each, points with intervals where there are any."""
    settings = {row.id: row.setting or "-" for row in rows()}
    lines = []
    for effect in found:
        line = {
            "row": effect.row,
            "setting": settings[effect.row],
            "change": effect.change,
            "how": effect.how,
        }
        for metric in study.COMPARED:
            value, half = (known.get(metric, np.nan) for known in (effect.points, effect.half))
            line[study.METRICS[metric]] = plus_minus(value, half, sign="+", absent="")
        lines.append({**line, "note": effect.note})
    return pd.DataFrame(lines)
