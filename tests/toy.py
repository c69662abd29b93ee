"""What tests share: the place of the golden numbers, a toy checkpoint, and a toy dataset.

The dataset is plain textures, some with a spot or a scratch, with exact masks, drawn in a moment.
"""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from data_prep.mini import benchmark, sets
from fap_lib.core.files import atomic
from fap_lib.data.manifest import Manifest, Record, write_manifest

GOLDEN = Path(__file__).parent / "golden" / "tiny.npz"

SIZE = 98
CATEGORIES = {"toy-aux": ("stripes", "grain"), "toy-test": ("dots", "waves")}
"""Categories of the dataset to train on and of the one to test on; none is in both."""


def official() -> dict[str, torch.Tensor]:
    """A state dict in the layout of the authors' checkpoints, of toy size."""
    state = {"ctx_pos": torch.zeros(1, 1, 5, 8), "ctx_neg": torch.zeros(1, 10, 2, 8)}
    state |= {f"compound_prompts_text.{layer}": torch.zeros(4, 8) for layer in range(3)}
    for layer, shape in ((1, (2, 80)), (2, (160, 2))):
        state[f"patch_meta_net.linear{layer}.weight"] = torch.zeros(shape)
        state[f"patch_meta_net.linear{layer}.bias"] = torch.zeros(shape[0])
    return state


def write(folder: Path, name: str, each: int = 12, seed: int = 0) -> Manifest:
    """Draw the dataset `name` into `folder`: `each` normal and `each` anomalous images a category."""
    records = []
    for number, category in enumerate(CATEGORIES[name]):
        random = np.random.default_rng([seed, len(name), number])
        for index in range(2 * each):
            defect = ("good", "spot", "good", "scratch")[index % 4]
            pixels, mask = draw(category, defect, random)
            image = f"{category}/{defect}/{index:03d}.png"
            _save(folder / image, pixels)
            mask_path = None
            if defect != "good":
                mask_path = f"{category}/masks/{index:03d}.png"
                _save(folder / mask_path, mask.astype(np.uint8) * 255)
            records.append(Record(image, mask_path, category, defect, int(defect != "good")))
    manifest = Manifest(folder.resolve(), name, "nonzero", {"test": records})
    write_manifest(manifest, {"title": "toy textures, generated"})
    return manifest


def draw(category: str, defect: str, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image (SIZE, SIZE, 3) uint8 and its mask (SIZE, SIZE) bool."""
    y, x = np.mgrid[:SIZE, :SIZE]
    phase, period = random.uniform(0, 6.3), random.uniform(8, 14)
    wave = {
        "stripes": np.sin(6.3 * x / period + phase),
        "grain": random.standard_normal((SIZE, SIZE)),
        "dots": np.sin(6.3 * x / period + phase) * np.sin(6.3 * y / period),
        "waves": np.sin(6.3 * y / period + 2 * np.sin(6.3 * x / SIZE + phase)),
    }[category]
    grey = 110 + 18 * wave + random.normal(0, 4, (SIZE, SIZE))
    row, column = random.uniform(20, SIZE - 20, 2)
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    if defect == "spot":
        mask = np.hypot(y - row, x - column) < random.uniform(6, 12)
    elif defect == "scratch":
        angle, length = random.uniform(0, 3.14), random.uniform(15, 30)
        along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
        across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        mask = (np.abs(along) < length) & (np.abs(across) < 2)
    grey[mask] += 90
    tint = np.array([1.0, 0.95, 0.9])
    return np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8), mask


def _save(path: Path, pixels: np.ndarray) -> None:
    with atomic(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def mini(folder: Path) -> Manifest:
    """A small draw of the mini world's test set: two categories, two normal images, one of each defect."""
    few = replace(sets.SETS["mini-test"], categories=("leather", "pill"), good=2, each=1, train=0)
    with patch.dict(sets.SETS, {"mini-test": few}):
        return benchmark.generate(folder, "mini-test")
