"""What learned prompts are measured against, on the same cached features and with the same scores.

Hand-written prompts (WinCLIP's two-class part), a linear probe on labelled features (what the features
allow at best), and maps that know nothing of defects. Each is a predictor for `scoring.score_with`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fap_lib.clip.backbone import Backbone
from fap_lib.core.errors import KitError, nearest
from fap_lib.data.features import FeatureCache
from fap_lib.data.images import load_image
from fap_lib.evaluation.patches import covered
from fap_lib.model import Prediction, class_logits

Predictor = Callable[[np.ndarray], Prediction]
"""Image indices (b,) of a cache to their prediction."""


class Wording(NamedTuple):
    """How to write the two classes: every state in every template; `{}` takes the state, then the name."""

    normal: tuple[str, ...]
    abnormal: tuple[str, ...]
    templates: tuple[str, ...]


_GOOD = ("flawless {}", "perfect {}", "good {}", "intact {}", "normal {}")
_BAD = ("damaged {}", "broken {}", "defective {}", "faulty {}", "abnormal {}")
_PHOTOS = ("{}", "a {}", "a photo of {}", "a photo of a {}.", "a close-up of a {}", "an image of a {}.")

WORDINGS = {
    "one pair": Wording(("flawless {}",), ("damaged {}",), ("{}",)),
    "one pair, a photo of": Wording(("flawless {}",), ("damaged {}",), ("a photo of a {}.",)),
    "good and bad": Wording(("good {}",), ("broken {}",), ("{}",)),
    "ensemble": Wording(_GOOD, _BAD, _PHOTOS),
    "ensemble, no article": Wording(_GOOD, _BAD, ("{}",)),
    "looks, by an expert": Wording(
        ("plain {}", "even {}", "smooth {}", "uniform {}", "regular {}"),
        (
            "{} with a thin dark line",
            "{} with a jagged line",
            "{} with a round dark spot",
            "{} with a soft brown blotch",
            "{} with a black spot with a brown edge",
            "{} with scattered dark specks",
            "{} with a notch in the edge",
            "{} with a gap in the row",
            "{} with a swirled pattern",
        ),
        ("{}",),
    ),
}

WINCLIP_PHOTOS = (
    "a cropped photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)

PUBLISHED = {
    "clip": Wording(("normal {}",), ("anomalous {}",), ("a photo of a {}.",)),
    "winclip": Wording(
        (
            "{}",
            "flawless {}",
            "perfect {}",
            "unblemished {}",
            "{} without flaw",
            "{} without defect",
            "{} without damage",
        ),
        ("damaged {}", "{} with flaw", "{} with defect", "{} with damage"),
        WINCLIP_PHOTOS,
    ),
}
"""Prompts of published baselines, with class names: the pair that AnomalyCLIP's paper gives to CLIP, and
WinCLIP's ensemble (its text part alone: no windows). They are not tuned to anything here."""


def published(name: str) -> Wording:
    """One of `PUBLISHED`.

    Raises:
        KitError: unknown name.
    """
    if name not in PUBLISHED:
        near = nearest(name, PUBLISHED)
        raise KitError(f"unknown wording {name!r}; the nearest is {near!r} (known: {', '.join(PUBLISHED)}).")
    return PUBLISHED[name]


def text_features(backbone: Backbone, wording: Wording, name: str) -> Tensor:
    """(C, D) unit text features of the two classes: the mean over all sentences about `name`."""
    device = next(backbone.clip.parameters()).device
    classes = []
    for states in (wording.normal, wording.abnormal):
        sentences = [
            template.format(state.format(name)) for state in states for template in wording.templates
        ]
        with torch.no_grad():
            tokens = backbone.tokenizer(sentences).to(device)
            features = backbone.clip.encode_text(tokens)
        classes.append(F.normalize(features.mean(0), dim=-1))
    return torch.stack(classes).cpu()


def hand_written(
    backbone: Backbone, cache: FeatureCache, wording: Wording, named: bool, temperature: float
) -> Predictor:
    """Prompts that nobody trained.

    Args:
        named: write each image's category into its prompts; else "object", as learned prompts do.
    """
    names = [record.category.replace("_", " ") if named else "object" for record in cache.records]
    texts = {name: text_features(backbone, wording, name) for name in sorted(set(names))}

    def predict(index: np.ndarray) -> Prediction:
        image, patches = cache.features(index)
        text = torch.stack([texts[names[i]] for i in index])
        probability = class_logits(patches, text, temperature).softmax(-1)
        logits = class_logits(image[:, None], text, temperature)[:, 0]
        return Prediction(probability, probability, text, None, None, logits)

    return predict


def linear_probe(train: FeatureCache, test: FeatureCache, seed: int = 0, patches: int = 40_000) -> Predictor:
    """Logistic regressions on labelled features of `train`: one on patches, one on global features.

    A patch is anomalous where the mask covers a tenth of it or more. Trained on features with masks, it says
    what the features of other categories allow; prompts, which must pass the text tower, can hardly beat it.

    Args:
        patches: how many to train on, half of each class where there are enough.
    """
    everything = np.arange(len(train))
    bad = covered(train.masks(everything), train.grid).numpy()  # (n, N)
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.argwhere(bad == anomalous))[: patches // 2] for anomalous in (False, True)
    ]
    places = np.concatenate(chosen)
    on_patches = _probe(train.patches[places[:, 0], places[:, 1]], bad[places[:, 0], places[:, 1]])
    on_images = _probe(train.image[everything], np.array(train.labels))

    def predict(index: np.ndarray) -> Prediction:
        image, features = test.features(index)
        return _prediction(
            (features @ on_patches[0] + on_patches[1]).sigmoid(), image @ on_images[0] + on_images[1]
        )

    return predict


def _probe(features: np.ndarray, labels: np.ndarray) -> tuple[Tensor, float]:
    """Weights (D,) and bias of a class-balanced logistic regression; unit features, so C is large."""
    from sklearn.linear_model import LogisticRegression  # a second, which only the probe is worth

    fitted = LogisticRegression(C=100, class_weight="balanced", max_iter=500).fit(
        features.astype(np.float32), labels
    )
    return torch.from_numpy(fitted.coef_[0]).float(), float(fitted.intercept_[0])


def _prediction(patches: Tensor, logits: Tensor) -> Prediction:
    """A prediction from abnormal patch probabilities (b, N) and abnormal image logits (b,)."""
    both = torch.stack([1 - patches, patches], dim=-1)
    image = torch.stack([torch.zeros_like(logits), logits], dim=-1)
    return Prediction(both, both, torch.empty(0), None, None, image)


def foreground(cache: FeatureCache, outline: Callable[[str], Path]) -> Predictor:
    """Takes all of the object for anomalous. `outline`: an image's path to that of its foreground mask."""

    def predict(index: np.ndarray) -> Prediction:
        masks = [np.asarray(Image.open(outline(cache.records[i].image))) for i in index]
        planes = torch.from_numpy(np.stack(masks) > 0).float()[:, None]  # (b, 1, H, W)
        patches = F.adaptive_avg_pool2d(planes, cache.grid).flatten(1)  # (b, N)
        return _prediction(patches, torch.zeros(len(index)))

    return predict


def centre(cache: FeatureCache) -> Predictor:
    """Takes the middle of the image for anomalous."""
    axis = torch.linspace(-1, 1, cache.grid)
    bump = torch.exp(-2 * (axis[:, None] ** 2 + axis[None] ** 2)).flatten()  # (N,)
    return lambda index: _prediction(bump.expand(len(index), -1), torch.zeros(len(index)))


def edges(cache: FeatureCache) -> Predictor:
    """Takes strong edges for anomalous: the mean gradient of each patch, over the strongest seen in 8-bit."""

    def predict(index: np.ndarray) -> Prediction:
        images = [load_image(cache.root / cache.records[i].image, cache.image_size) for i in index]
        grey = torch.from_numpy(np.stack(images)).float().mean(-1) / 255
        rows, columns = torch.gradient(grey, dim=(1, 2))
        strength = torch.hypot(rows, columns).clamp(max=1)
        patches = F.adaptive_avg_pool2d(strength[:, None], cache.grid).flatten(1)  # (b, N)
        return _prediction(patches, torch.zeros(len(index)))

    return predict
