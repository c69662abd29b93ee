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
class DealtAnew:
    """A training set in which each image has the label and the mask of another one: nothing to learn from.

    Masks are moved as well, round the edges, or one could still learn where in an image defects usually are.
    It is what training takes (`fap_lib.training.TrainingSet`), for controls.
    """

    right: FeatureCache
    seed: int = 0

    @property
    def _order(self) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(len(self.right))

    @property
    def name(self) -> str:
        return f"{self.right.name}, labels and masks dealt anew"

    @property
    def digest(self) -> str:
        return f"{self.right.digest}, dealt anew by {self.seed}"

    @property
    def backbone(self) -> Backbone:
        return self.right.backbone

    @property
    def settings(self) -> FeatureSettings:
        return self.right.settings

    @property
    def labels(self) -> list[int | None]:
        labels = self.right.labels
        return [labels[place] for place in self._order]

    def __len__(self) -> int:
        return len(self.right)

    def features(self, index: np.ndarray, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Each image's own features."""
        return self.right.features(index, device)

    def masks(self, index: np.ndarray) -> Tensor:
        """Other images' masks, each moved by a distance of its own."""
        masks = self.right.masks(self._order[index])
        moves = np.random.default_rng(self.seed).integers(0, masks.shape[-1], (len(self.right), 2))[index]
        return torch.stack(
            [mask.roll(move, (0, 1)) for mask, move in zip(masks, moves.tolist(), strict=True)]
        )

    def seeds(self, index: np.ndarray) -> list[int]:
        """Each image's own numbers."""
        return self.right.seeds(index)

    def check_trainable(self) -> None:
        """As the set it is made of."""
        self.right.check_trainable()
