"""What decides the outcome of a pre-training, and what the mini CLIP must never see in it."""

from dataclasses import dataclass

import numpy as np

from fap_lib.clip import mini

UNSEEN_CATEGORIES = ("leather", "nut", "cable", "speckle")
UNSEEN_KINDS = ("glue", "thread", "swapped")


@dataclass(frozen=True)
class Recipe:
    """All that decides the outcome. Sizes in pixels, rates as fractions."""

    seed: int = 0
    images: int = 60_000
    anomalous: float = 0.6
    steps: int = 5000
    stages: tuple[tuple[float, int, int], ...] = ((0.35, 48, 128), (0.3, 64, 96), (0.35, 96, 64))
    """(share of the steps, side of the windows the images are seen through, images a batch) in turn."""
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    state_share: float = 0.03
    state_right: float = 0.7
    text_only: bool = False
    """Take the mini CLIP's image tower as it is and train a text tower to it (LiT, Zhai et al. 2022)."""

    def stage(self, step: int) -> tuple[int, int]:
        """Window side and batch size of a step."""
        ends = np.cumsum([share for share, _, _ in self.stages]) * self.steps
        _, side, count = self.stages[min(int(np.searchsorted(ends, step, "right")), len(self.stages) - 1)]
        return side, count


RECIPES = {
    mini.MINI: Recipe(),
    # State words that are wrong as often as right: the text tower can learn nothing from them.
    mini.SILENT: Recipe(steps=600, learning_rate=1e-3, state_right=0.5, text_only=True),
}
