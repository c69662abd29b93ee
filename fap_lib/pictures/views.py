"""One image as FAPrompt sees it: its maps under any prompt, the patches the prior reads, a threshold.

Letters: N patches on a g x g grid, K prompts, H = W the size of the scored image in pixels.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from fap_lib.data.images import load_image
from fap_lib.data.manifest import Record
from fap_lib.lessons.lesson import Lesson
from fap_lib.maps import pixel_maps
from fap_lib.model import StaticText

Kind = Literal["static", "adapted", "mean"]
"""Which probabilities are shown: under the static prompts, under the adapted ones, or the mean of both."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class View:
    """What the controls say.

    prompt: 0 for all (their prototype), else one of 1 to K. count: how many patches are marked.
    threshold: of the map's pixels and of the image score, both in [0, 1].
    """

    count: int
    prompt: int = 0
    kind: Kind = "mean"
    threshold: float = 0.5


@dataclass(frozen=True)
class Look:
    """One image and all about it that no slider changes.

    pixels: (H, W, 3) uint8. truth: (H, W) bool, or None where no mask exists.
    values: (3, 1 + K, N) abnormal patch probabilities in the order of `KINDS`; prompt 0 is the prototype.
    ranking: (N,) patches from the most to the least abnormal in the static map, as DAP ranks them.
    read: the patches that the prior network read. parts: what the score is made of, each in [0, 1].
    """

    record: Record
    pixels: np.ndarray
    truth: np.ndarray | None
    values: np.ndarray
    ranking: np.ndarray
    read: np.ndarray
    reading: str
    score: float
    parts: dict[str, float]
    sigma: float

    @property
    def size(self) -> int:
        """H, in pixels."""
        return len(self.pixels)

    @property
    def grid(self) -> int:
        """g, patches a side."""
        return round(self.values.shape[-1] ** 0.5)

    @property
    def n_prompts(self) -> int:
        """K."""
        return self.values.shape[1] - 1


def look_at(lesson: Lesson, index: int, static: StaticText | None = None) -> Look:
    """Compute what the explorer shows of image `index` of a lesson's dataset.

    Args:
        static: the model's `static_text()`, to share it between images.
    """
    cache, model = lesson.cache, lesson.model
    record = cache.records[index]
    with torch.inference_mode():
        static = static or model.static_text()
        image, patches = cache.features(np.array([index]), lesson.device)
        prediction = model(image, patches, static)
        both = []
        for whole, prior in ((prediction.static, None), (prediction.adapted, prediction.prior)):
            both.append(torch.cat([whole[..., 1][:, None], model.prompt_maps(patches, static, prior)], dim=1))
        values = torch.cat([*both, (both[0] + both[1]) / 2]).float().cpu().numpy()
        ranking = prediction.static[0, :, 1].sort(descending=True, stable=True).indices.cpu().numpy()
    known = record.label == 0 or record.mask is not None
    return Look(
        record=record,
        pixels=load_image(cache.root / record.image, cache.image_size),
        truth=cache.masks(np.array([index]))[0].numpy() if known else None,
        values=values,
        ranking=ranking,
        read=np.empty(0, int) if prediction.chosen is None else prediction.chosen[0].cpu().numpy(),
        reading=_reading(model.settings),
        score=float(prediction.score),
        parts={
            "global feature": float(prediction.image_probability),
            "static map, largest": float(prediction.static[..., 1].max()),
            "adapted map, largest": float(prediction.adapted[..., 1].max()),
        },
        sigma=lesson.profile.scoring.sigma,
    )


def _reading(settings: Any) -> str:
    """What the prior network reads, whatever the slider says."""
    if not settings.prior:
        return "these prompts have no prior: adapted maps are the static ones"
    which = {
        "most_abnormal": f"the {settings.n_patches} most abnormal patches",
        "first": f"the first {settings.n_patches} patches of the image, not the most abnormal ones",
        "random": f"{settings.n_patches} random patches",
        "global": "the image's global feature and no patch",
    }[settings.patch_selection]
    return f"the prior network was trained to read {which}, and reads them here"


def patch_grid(look: Look, view: View) -> np.ndarray:
    """(g, g) abnormal probabilities of the patches."""
    return look.values[KINDS.index(view.kind), view.prompt].reshape(look.grid, look.grid)


def pixel_map(look: Look, view: View) -> np.ndarray:
    """(H, W) the same, resized and smoothed: the anomaly map, if it is the mean under all prompts."""
    values = torch.from_numpy(patch_grid(look, view)).flatten()
    return pixel_maps(values, look.size, look.sigma).numpy()


def overlap(mask: np.ndarray, truth: np.ndarray) -> float | None:
    """Intersection over union of two masks; None where both are empty."""
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else None


def sentences(look: Look, view: View, mask: np.ndarray) -> list[str]:
    """What the picture shows, in words: truth, score, mask, patches."""
    record, above = look.record, look.score >= view.threshold
    truth = {0: "normal", 1: "anomalous", None: "not known"}[record.label]
    called = "anomalous" if above else "normal"
    verdict = "" if record.label is None else ", right" if bool(record.label) == above else ", wrong"
    area = f"Mask: {mask.sum()} of {mask.size} pixels ({mask.mean():.1%})"
    if look.truth is None:
        area += "; no ground truth"
    else:
        shared = overlap(mask, look.truth)
        area += f"; ground truth {look.truth.mean():.1%}"
        area += f"; intersection over union {shared:.2f}" if shared is not None else "; both are empty"
    return [
        f"{record.category}, {record.defect}: the image is {truth}.",
        f"Score {look.score:.3f} {'≥' if above else '<'} threshold {view.threshold:.2f}: "
        f"called {called}{verdict}.",
        f"{area}.",
        f"Squares: the {view.count} most abnormal patches. Dots: {look.reading}.",
    ]


def title(view: View) -> str:
    return f"patches: {view.kind}, {prompt_name(view.prompt)}"


def prompt_name(number: int) -> str:
    return f"prompt {number}" if number else "all prompts"
