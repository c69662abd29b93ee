"""What a detector says about one image."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from fap_lib.maps import pixel_maps


@dataclass(frozen=True)
class WholeMap:
    """The map of an image that was scored as a whole, not yet drawn.

    patches: (2, N) abnormal probability of each patch under the static and the adapted prompts.
    size: pixels of a side of the scored image. sigma: smoothing in these pixels.
    """

    patches: np.ndarray
    size: int
    sigma: float

    def draw(self, width: int, height: int) -> np.ndarray:
        """(height, width) float32: smoothed at the scored size, then resized bilinearly."""
        values = pixel_maps(torch.from_numpy(self.patches).mean(dim=0), self.size, self.sigma)
        return resized(values.numpy(), width, height)


class Evidence(Protocol):
    """From which a map is drawn; small beside it, so that results can be kept by the thousand."""

    def draw(self, width: int, height: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Result:
    """Scores and map of one image.

    image: its path, or its place in what was given ("image 3"). index: that place, from 0.
    score, probability: image score, and the part of it that comes from the global feature; in [0, 1].
    flagged: whether the score is above the detector's threshold; None if it has none.
    width, height: of the image, in pixels. level: where the map's outline runs; None without a threshold.
    """

    image: str
    index: int
    score: float
    probability: float
    flagged: bool | None
    width: int
    height: int
    level: float | None
    evidence: Evidence = field(repr=False)

    @cached_property
    def map(self) -> np.ndarray:
        """(height, width) float32 abnormal probabilities in [0, 1]; drawn at the first look, then kept."""
        return self.evidence.draw(self.width, self.height)

    @property
    def mask(self) -> np.ndarray | None:
        """(height, width) bool, where the map is above `level`; None without a threshold."""
        return None if self.level is None else self.map > self.level


def resized(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """A map at another size, by Pillow's bilinear resize; (height, width) float32."""
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
