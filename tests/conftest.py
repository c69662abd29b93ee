"""Shared pieces: a small dataset drawn on the spot, and backbones that are built once."""

import json
from pathlib import Path

import numpy as np
import pytest
import toy
from toy import GOLDEN

from fap_lib.clip.backbone import TINY, Backbone, load_backbone
from fap_lib.core.config import FeatureSettings, Profile, load_profile
from fap_lib.core.errors import KitError
from fap_lib.data.manifest import Manifest
from fap_lib.grids import snakemake
from fap_lib.official import parity

FIRST = (
    *("test_workflow_run.py", "test_explorer_browser.py", "test_bench.py", "test_mini.py"),
    *("test_checkpoints.py", "test_score_command.py", "test_lesson_07_08_09.py", "test_figures.py"),
)
"""The files that take longest start first, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in `FIRST`, then notebooks, then the others."""

    def place(item: pytest.Item) -> int:
        if item.path.name in FIRST:
            return FIRST.index(item.path.name)
        return len(FIRST) + (item.path.suffix != ".ipynb")

    items.sort(key=place)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything the kit makes goes to a temporary folder."""
    monkeypatch.setenv("FAP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def engine() -> str:
    """The Snakemake program; `make workflow` installs it, `make setup` alone does not."""
    try:
        return snakemake.snakemake()
    except KitError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return load_backbone(TINY)


@pytest.fixture(scope="session")
def golden_backbone() -> Backbone:
    """The CLIP of the official outputs in `golden/tiny.npz`; drawing its weights takes seconds."""
    with np.load(GOLDEN) as file:
        return parity.build_backbone(json.loads(str(file["config"])))


@pytest.fixture(scope="session")
def profile() -> Profile:
    return load_profile("tiny")


@pytest.fixture(scope="session")
def small() -> FeatureSettings:
    """Features of 5 x 5 patches."""
    return FeatureSettings(backbone=TINY, image_size=70, vv_blocks=2)


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """Two categories, eight images each, half of them anomalous, 98 x 98 pixels."""
    return toy.write(tmp_path / "toy-aux", "toy-aux", each=4)
