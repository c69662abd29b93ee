"""The pieces of FAPrompt in the form that notebook 13 asks for, and what they are tried on."""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fap_lib.clip.backbone import Backbone
from fap_lib.clip.text_tower import Prefix, TextTower
from fap_lib.core import paths
from fap_lib.core.config import FeatureSettings, TrainSettings
from fap_lib.dap import select_patches
from fap_lib.data.features import FeatureCache
from fap_lib.lessons.lesson import Lesson
from fap_lib.lessons.probing import Evidence, ask, even_sample
from fap_lib.model import FAPrompt, StaticText
from fap_lib.official import parity
from fap_lib.training import losses


def two_texts(tower: TextTower, tokens: Tensor, normal: Tensor, abnormal: Tensor) -> Tensor:
    """Unit texts (2, D) of "[start] V1 .. VE object . [end]" and its damaged twin.

    Args:
        tokens: (E, w), learnable. normal, abnormal: (L, w), the words' embeddings from start to end token.
    """
    none = tokens.new_zeros(0, 0, tower.width)  # no deep tokens
    shared = torch.cat([normal[:1], tokens])
    return F.normalize(tower.prompts(shared, none, [normal[1:], abnormal[1:]])[1], dim=-1)


def most_abnormal(patches: Tensor, abnormal: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Features (B, M, D) and indices (B, M) of the patches with the highest probabilities (B, N)."""
    return select_patches(patches, abnormal, count, "most_abnormal")


def adapted_text(tower: TextTower, prefix: Prefix, suffixes: Tensor) -> Tensor:
    """Text features (B, K, D) of suffixes (B, K, L, w) that continue one prefix."""
    return tower.suffix(prefix, suffixes.flatten(0, 1)).unflatten(0, suffixes.shape[:2])


def training_step(
    model: FAPrompt,
    optimiser: torch.optim.Optimizer,
    image: Tensor,
    patches: Tensor,
    label: Tensor,
    mask: Tensor,
    settings: TrainSettings,
) -> float:
    """One step downhill; the total loss before it."""
    static = model.static_text()
    total = losses(model(image, patches, static), static, label, mask, settings)["total"]
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return float(total.detach())


class Golden(NamedTuple):
    """The tiny model of the authors' outputs, its features (B, D) and (B, N, D), and these outputs."""

    model: FAPrompt
    image: Tensor
    patches: Tensor
    label: Tensor
    mask: Tensor
    theirs: dict[str, np.ndarray]


def golden() -> Golden:
    """A fresh model each time: some steps train it."""
    with np.load(paths.GOLDEN) as file:
        recipe = json.loads(str(file["config"]))
        theirs = {name.removeprefix("paper/"): file[name] for name in file.files if name.startswith("paper/")}
    model = parity.build_model(_golden_backbone(json.dumps(recipe)), recipe, "paper")
    image = F.normalize(torch.from_numpy(theirs["image_features_raw"]), dim=-1)
    patches = F.normalize(torch.from_numpy(theirs["patch_features_raw"])[:, 1:], dim=-1)
    _, label, mask = parity.build_inputs(recipe)
    return Golden(model, image, patches, label, mask, theirs)


@lru_cache(maxsize=1)
def _golden_backbone(recipe: str) -> Backbone:
    return parity.build_backbone(json.loads(recipe))


class Sample(NamedTuple):
    """Some images of a lesson for metrics: their features, and what its prompts say about them.

    image: (B, D). patches: (B, N, D). found: on the CPU. static: the prompts' static texts.
    """

    model: FAPrompt
    image: Tensor
    patches: Tensor
    found: Evidence
    static: StaticText


def sample(lesson: Lesson, patches: int = 100 * 144) -> Sample:
    """A lesson's images, evenly spread, that together have at most so many patches."""
    index = even_sample(lesson.cache, patches)
    features = lesson.cache.features(index, lesson.device)
    with torch.inference_mode():
        return Sample(lesson.model, *features, ask(lesson, index), lesson.model.static_text())


@dataclass(frozen=True)
class TurnedOver:
    """A training set that calls normal what is anomalous, and the other way round: images as well as pixels.

    It is what training takes (`fap_lib.training.TrainingSet`), for controls.
    """

    right: FeatureCache

    @property
    def name(self) -> str:
        return f"{self.right.name}, turned over"

    @property
    def digest(self) -> str:
        return f"{self.right.digest}, turned over"

    @property
    def backbone(self) -> Backbone:
        return self.right.backbone

    @property
    def settings(self) -> FeatureSettings:
        return self.right.settings

    @property
    def labels(self) -> list[int | None]:
        return [None if label is None else 1 - label for label in self.right.labels]

    def __len__(self) -> int:
        return len(self.right)

    def features(self, index: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """The images' own features."""
        return self.right.features(index, device)

    def masks(self, index: np.ndarray) -> Tensor:
        """The images' own masks, inside out."""
        return ~self.right.masks(index).bool()

    def seeds(self, index: np.ndarray) -> list[int]:
        """The images' own numbers."""
        return self.right.seeds(index)

    def check_trainable(self) -> None:
        """As the set it is made of."""
        self.right.check_trainable()
