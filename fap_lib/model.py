"""FAPrompt: from CLIP features to maps and an image score.

Letters: B images, N patches on a g x g grid, D feature width, K prompts, C = 2 classes in the order
(normal, abnormal).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fap_lib.cap import CompoundPrompts, prototype
from fap_lib.clip.text_tower import Prefix, TextTower
from fap_lib.core.config import ModelSettings
from fap_lib.core.errors import KitError
from fap_lib.dap import PriorNetwork, select_patches


class StaticText(NamedTuple):
    """What the prompts say before they see an image.

    prefix: shared keys and values; normal: (D,) unit length; abnormal: (K, D), not normalised.
    """

    prefix: Prefix
    normal: Tensor
    abnormal: Tensor


class Prediction(NamedTuple):
    """What FAPrompt says about a batch. Probabilities lie in [0, 1].

    static, adapted: (B, N, C) patch probabilities under the static and the adapted prompts.
    text: (B, C, D) adapted text features, unit length.
    prior: (B, width), or None without DAP; chosen: (B, M) patch indices, or None where no patch is chosen.
    image_logits: (B, C) cosines over the temperature.
    """

    static: Tensor
    adapted: Tensor
    text: Tensor
    prior: Tensor | None
    chosen: Tensor | None
    image_logits: Tensor

    @property
    def image_probability(self) -> Tensor:
        """(B,) abnormal probability of the global feature."""
        return self.image_logits.softmax(-1)[:, 1]  # (B, C) to (B,)

    @property
    def score(self) -> Tensor:
        """(B,) image score in [0, 1]: global probability and the largest patch probabilities.

        The maximum is taken over patches, before any resizing or smoothing. Source: `test.py:147-148`.
        """
        largest = (2 * self.static[..., 1].amax(1) + self.adapted[..., 1].amax(1)) / 3  # (B,)
        return 0.5 * (self.image_probability + largest)

    @property
    def patch_map(self) -> Tensor:
        """(B, N) mean abnormal probability of both maps; resized and smoothed, the anomaly map."""
        return (self.static[..., 1] + self.adapted[..., 1]) / 2  # (B, N)


def class_logits(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """(B, N, C) cosines over the temperature, of unit features (B, N, D) and unit texts (B, C, D)."""
    return features @ text.transpose(1, 2) / temperature  # (B, N, D) @ (B, D, C)


class FAPrompt(nn.Module):
    """The prompt learner over a frozen text tower.

    Args:
        text_tower: frozen; its weights are not part of the state.
        settings: sizes, words, mode.
        patch_width: D, the width of CLIP's joint space.

    Raises:
        KitError: more deep layers than the text tower has room for.
    """

    def __init__(self, text_tower: TextTower, settings: ModelSettings, patch_width: int):
        super().__init__()
        room = len(text_tower.blocks) - 1
        if settings.deep_layers > room:
            raise KitError(
                f"deep_layers is {settings.deep_layers}, but this text tower has room for {room} "
                "(every block but the first)."
            )
        self.settings = settings
        self._towers = (text_tower,)  # a tuple hides the frozen tower from parameters() and state_dict()
        self.prompts = CompoundPrompts(
            text_tower.embed(f"{settings.normal_word} {settings.object_word}.".lstrip()),
            text_tower.embed(f"{settings.abnormal_word} {settings.object_word}.".lstrip()),
            n_prompts=settings.n_prompts,
            normal_tokens=settings.normal_tokens,
            abnormal_tokens=settings.abnormal_tokens,
            deep_layers=settings.deep_layers,
            deep_tokens=settings.deep_tokens,
        )
        self.prior_network = (
            PriorNetwork(settings.n_patches, patch_width, text_tower.width) if settings.prior else None
        )
        # On the abnormal logit of patches and of images; no part of FAPrompt, an ablation.
        self.bias = nn.Parameter(torch.zeros(2)) if settings.logit_bias else None

    @property
    def text_tower(self) -> TextTower:
        """The frozen tower the prompts are read by."""
        return self._towers[0]

    def static_text(self, abnormal: Tensor | None = None) -> StaticText:
        """Encode the prompts without a prior; constant until the next optimiser step.

        Args:
            abnormal: (K, E', width) tokens to take in place of the learned abnormal ones.
        """
        tower, prompts = self.text_tower, self.prompts
        suffixes = prompts.abnormal_suffix() if abnormal is None else prompts.ended(abnormal)  # (K, L, width)
        together = [*prompts.normal_suffix(), *suffixes]
        prefix, features = tower.prompts(prompts.prefix(), prompts.deep, together)  # features: (1 + K, D)
        return StaticText(prefix, F.normalize(features[0], dim=-1), features[1:])

    def adapted_text(self, prefix: Prefix, prior: Tensor) -> Tensor:
        """Abnormality text features under priors (B, width), of all prompts of all images in one call.

        Args:
            prefix: `static_text().prefix` of the present parameters.

        Returns:
            (B, K, D), not normalised.
        """
        suffix = self.prompts.abnormal_suffix(prior)  # (B, K, L, width)
        features = self.text_tower.suffix(prefix, suffix.flatten(0, 1))  # (B * K, D)
        return features.unflatten(0, suffix.shape[:2])  # (B, K, D)

    def forward(
        self,
        image: Tensor,
        patches: Tensor,
        static: StaticText | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Prediction:
        """Predict a batch.

        Args:
            image: (B, D) unit global features. patches: (B, N, D) unit patch features.
            static: `static_text()` of the present parameters, to share it between batches.
            seeds: B numbers (`FeatureCache.seeds`), for `selection: random` alone.

        Raises:
            KitError: fewer patches than the prior needs, or random patches without seeds.
        """
        static = static or self.static_text()
        text = torch.stack([static.normal, prototype(static.abnormal)])  # (C, D)
        text = text.expand(image.shape[0], -1, -1)  # (B, C, D)
        static_map = self._logits(patches, text, 0).softmax(-1)  # (B, N, C)

        omega = chosen = None
        adapted_map = static_map
        if self.prior_network is not None:
            selected, chosen = self._selected(image, patches, static_map[..., 1], seeds)  # (B, M, D), (B, M)
            omega = self.prior_network(selected)  # the prior Omega_x, (B, width)
            adapted = prototype(self.adapted_text(static.prefix, omega))  # (B, D)
            text = torch.stack([text[:, 0], adapted], dim=1)  # (B, C, D)
            adapted_map = self._logits(patches, text, 0).softmax(-1)  # (B, N, C)

        image_logits = self._logits(image[:, None], text, 1)[:, 0]  # (B, C)
        return Prediction(static_map, adapted_map, text, omega, chosen, image_logits)

    def prompt_maps(self, patches: Tensor, static: StaticText, prior: Tensor | None = None) -> Tensor:
        """(B, K, N) abnormal probability of each single prompt against the normal prompt.

        Args:
            prior: (B, width), as `Prediction` holds it, for the adapted prompts; None for the static ones.
        """
        abnormal = static.abnormal if prior is None else self.adapted_text(static.prefix, prior)  # (B, K, D)
        difference = F.normalize(abnormal, dim=-1) - static.normal
        logits = patches @ difference.mT / self.settings.temperature  # (B, N, K)
        return logits.sigmoid().mT

    def _selected(
        self, image: Tensor, patches: Tensor, abnormal: Tensor, seeds: Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None]:
        """What the prior sees: patches (B, M, D) and their indices (B, M), or the image feature (B, 1, D)."""
        count, selection = self.settings.n_patches, self.settings.patch_selection
        if selection == "global":
            return image[:, None], None
        if count > patches.shape[1]:
            raise KitError(
                f"n_patches is {count}, but an image has {patches.shape[1]} patches; lower n_patches."
            )
        return select_patches(patches, abnormal, count, selection, seeds)

    def _logits(self, features: Tensor, text: Tensor, level: int) -> Tensor:
        """Logits (B, N, C) of features (B, N, D) under texts (B, C, D); level 0: patches, 1: images."""
        logits = class_logits(features, text, self.settings.temperature)
        if self.bias is not None:
            logits = logits + F.pad(self.bias[level : level + 1], (1, 0))  # (C,): 0 on the normal class
        return logits
