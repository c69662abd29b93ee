"""Exported graphs: PyTorch's numbers in onnxruntime, any batch, and an example that needs no PyTorch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from PIL import Image

from fap_lib import Detector
from fap_lib.checkpoints import Checkpoint
from fap_lib.cli import main
from fap_lib.clip.backbone import RANDOM, TINY, load_backbone
from fap_lib.core import paths
from fap_lib.core.config import FeatureSettings, ModelSettings
from fap_lib.core.errors import KitError
from fap_lib.inference import export as exporting
from fap_lib.inference.export import ABOUT, MODEL, PROGRAM, VARIANTS, compare, export, run, session
from fap_lib.maps import pixel_maps
from fap_lib.model import FAPrompt

EXAMPLE = paths.REPOSITORY / "examples" / "score_onnx.py"


def pictures(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) uint8."""
    random = np.random.default_rng(1)
    drawn = [toy.draw("stripes", "spot" if i % 2 else "good", random)[0] for i in range(count)]
    return np.stack([np.asarray(Image.fromarray(each).resize((size, size))) for each in drawn])


@pytest.fixture(scope="module")
def mini() -> Detector:
    detector = Detector.load("paper", device="cpu")
    detector.calibrate(pictures(9, 96), alpha=0.2)
    return detector


@pytest.fixture(scope="module")
def folder(mini: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(mini, folder, tuple(VARIANTS))
    return folder


def equal(detector: Detector, folder: Path, images: np.ndarray) -> None:
    prediction = detector.forward(images)
    maps = pixel_maps(prediction.patch_map, detector.features.image_size, detector.sigma).numpy()
    score, drawn = run(session(folder / MODEL), images)
    assert np.abs(score - prediction.score.numpy()).max() < 1e-4
    assert np.abs(drawn - maps).max() < 1e-4
    assert drawn.dtype == np.float32


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_mini_clips_graph_is_pytorchs_in_any_batch(mini, folder, batch):
    equal(mini, folder, pictures(batch, 96))


def test_the_exported_program_is_pytorchs(mini, folder):
    images = pictures(3, 96)
    with torch.inference_mode():
        score, _ = torch.export.load(folder / PROGRAM).module()(torch.from_numpy(images))
    assert torch.allclose(score, mini.forward(images).score, atol=1e-5)


@pytest.mark.parametrize("name", [TINY, pytest.param("ViT-B-16-quickgelu", marks=pytest.mark.slow)])
def test_a_class_token_value_value_blocks_and_constant_text(name, tmp_path):
    """What the mini CLIP has not: another pooling, QuickGELU, the second path; random weights, no prior."""
    backbone = load_backbone(name, RANDOM)
    size = 4 * backbone.visual.patch_size[0]
    features = FeatureSettings(backbone=backbone.name, image_size=size, vv_blocks=3)
    torch.manual_seed(0)
    model = FAPrompt(backbone.text_tower, ModelSettings(prior=False, deep_layers=2), backbone.patch_width)
    detector = Detector(backbone, Checkpoint(model, features, {}), 4.0, "cpu")
    export(detector, tmp_path)
    equal(detector, tmp_path, pictures(3, size))


def test_variants_are_smaller_and_their_error_is_known(mini, folder):
    rows = {row.file: row for row in compare(mini, folder, pictures(4, 96))}
    assert list(rows) == ["detector (PyTorch)", MODEL, *VARIANTS.values()]
    assert rows["detector (PyTorch)"].score == rows["detector (PyTorch)"].map == 0
    assert rows[MODEL].map < 1e-4
    for name, share in (("float16", 0.6), ("int8", 0.4)):
        row = rows[VARIANTS[name]]
        assert row.megabytes < share * rows[MODEL].megabytes
        assert 1e-5 < row.map < 0.2
        assert row.score < 0.1


def test_the_example_needs_neither_pytorch_nor_the_kit(mini, folder, tmp_path):
    image = Image.fromarray(pictures(2, 98)[1])
    image.save(tmp_path / "spot.png")
    source = EXAMPLE.read_text()
    assert len(source.splitlines()) <= 40
    blocked = "import sys; sys.modules['torch'] = sys.modules['fap_lib'] = None; sys.argv.pop(0)\n"
    command = [sys.executable, "-c", blocked + source, str(EXAMPLE), str(folder), str(tmp_path / "spot.png")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = mini.predict(tmp_path / "spot.png")
    assert float(said.split()[0]) == pytest.approx(result.score, abs=1e-4)
    assert said.split()[-1] == ("flagged" if result.flagged else "fine")
    drawn = np.asarray(Image.open(folder / "spot-map.png")) / 255
    assert np.abs(drawn - result.map).max() < 0.51 / 255 + 1e-4


def test_what_a_program_needs_to_know_is_beside_the_graph(mini, folder):
    about = json.loads((folder / ABOUT).read_text())
    assert about["image_size"] == 96
    assert about["threshold"] == mini.threshold.score.threshold
    assert about["backbone"]["weights"] == mini.backbone.weights_sha256


def test_the_check_compares_on_ones_own_images(folder, tmp_path, capsys, monkeypatch):
    for number, picture in enumerate(pictures(2, 96)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    command = ["export", "paper", "--to", str(folder), "--check", str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 images; the largest differences")
    assert MODEL in said
    # A graph of other prompts is found out.
    other = Detector.load("released", device="cpu")
    monkeypatch.setattr(Detector, "load", lambda *_, **__: other)
    assert main(command) == 1


@pytest.mark.parametrize("name", [MODEL, *VARIANTS.values(), ABOUT])
def test_a_damaged_export_is_not_compared(mini, folder, tmp_path, name):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KitError, match=rf"{name} (has changed since .*; export it again|is not valid JSON)"):
        compare(mini, tmp_path, pictures(1, 96))


def test_what_cannot_be_exported_is_said(mini, tmp_path, monkeypatch):
    with pytest.raises(KitError, match="there is no exported model in"):
        compare(mini, tmp_path, pictures(1, 96))
    settings = mini.model.settings
    monkeypatch.setattr(mini.model, "settings", settings.model_copy(update={"selection": "random"}))
    with pytest.raises(KitError, match="selection = random"):
        export(mini, tmp_path)
    monkeypatch.setattr(mini.model, "settings", settings)
    monkeypatch.setattr(exporting, "LIMIT", 1000)
    with pytest.raises(KitError, match="an ONNX file holds 2"):
        export(mini, tmp_path)
    monkeypatch.setattr(mini, "device", "cuda")
    with pytest.raises(KitError, match="exported on the CPU in float32"):
        export(mini, tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(KitError, match=r"the package onnx is missing; install it with: pip install"):
        export(mini, tmp_path)
    assert not list(tmp_path.iterdir())
