"""Shared pieces: a small dataset drawn on the spot, and backbones that are built once."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fap_lib.clip import TINY, Backbone, load_backbone
from fap_lib.config import FeatureSettings, Profile, load_profile
from fap_lib.manifest import Manifest, read_manifest

GOLDEN = Path(__file__).parent / "golden" / "tiny.npz"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything the kit makes goes to a temporary folder."""
    monkeypatch.setenv("FAP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return load_backbone(TINY)


@pytest.fixture(scope="session")
def profile() -> Profile:
    return load_profile("tiny")


@pytest.fixture(scope="session")
def small() -> FeatureSettings:
    """Features of 5 x 5 patches."""
    return FeatureSettings(backbone=TINY, image_size=70, vv_blocks=2)


def draw_dataset(root: Path, categories: tuple[str, ...] = ("disc", "square"), each: int = 4) -> Path:
    """A prepared dataset of grey noise; in every other image a bright block, with its mask."""
    random = np.random.default_rng(0)
    entries: dict[str, list[dict]] = {}
    for category in categories:
        (root / category).mkdir(parents=True)
        for index in range(2 * each):
            pixels = random.integers(60, 120, (64, 80, 3), dtype=np.uint8)
            mask = np.zeros((64, 80), dtype=np.uint8)
            anomaly = index % 2
            if anomaly:
                row, column = random.integers(0, 40), random.integers(0, 50)
                mask[row : row + 16, column : column + 20] = 255
                pixels[mask > 0] = random.integers(200, 255)
            name = f"{category}/{index:03d}.png"
            Image.fromarray(pixels).save(root / name)
            if anomaly:
                Image.fromarray(mask).save(root / f"{category}/{index:03d}_mask.png")
            entries.setdefault(category, []).append(
                {
                    "img_path": name,
                    "mask_path": f"{category}/{index:03d}_mask.png" if anomaly else "",
                    "cls_name": category,
                    "specie_name": "bright" if anomaly else "good",
                    "anomaly": anomaly,
                }
            )
    (root / "meta.json").write_text(json.dumps({"train": {}, "test": entries}))
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """Two categories, eight images each, half of them anomalous."""
    return read_manifest(draw_dataset(tmp_path / "blocks"))
