"""The main job, end to end by papermill, on generated and on real images."""

import csv
import json
from pathlib import Path

import nbformat
import pytest
import torch
import toy
from test_data import REAL

from data_prep.mini import benchmark
from fap_lib.cli import main
from fap_lib.core import paths
from fap_lib.core.config import ModelSettings, ScoreSettings, TrainSettings
from fap_lib.core.errors import KitError
from fap_lib.data.features import features
from fap_lib.evaluation.scoring import evaluate, score
from fap_lib.model import FAPrompt
from fap_lib.runs.notebook import EVALUATE, FEATURES, LESSON, TRAIN, code_cells, run_notebook
from fap_lib.runs.report import PAGE
from fap_lib.runs.reproduce import Result, reproduce
from fap_lib.training import train


@pytest.fixture(scope="module")
def demo() -> Path:
    """The folder of the finished demo, which `make test` runs before the tests."""
    folder = paths.runs() / "demo"
    if not (folder / PAGE).is_file():
        pytest.skip("there is no finished demo here; `make demo` leaves one")
    return folder


def test_the_demo_leaves_one_complete_folder(demo):
    for name, place in ((FEATURES, "mini-a"), (TRAIN, "training"), (EVALUATE, "mini-test")):
        executed = nbformat.read(demo / place / f"{name}.ipynb", as_version=4)
        cells = [cell for cell in executed.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells), name
        assert not any(LESSON in cell.metadata.get("tags", []) for cell in executed.cells), name
        text = json.dumps(executed)
        assert "it/s]" not in text, "a progress bar was stored"
        assert "application/vnd.jupyter.widget-view+json" not in text

    with open(demo / "mini-test" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["category"] for row in rows} == {*benchmark.SETS["mini-test"].categories, "mean"}
    assert len(rows) == 9 * 8
    content = json.loads((demo / "mini-test" / "metrics.json").read_text())
    assert content["label"] == "the kit's own mini CLIP, on generated images"
    assert all(0 <= row["value"] <= 1 for row in content["metrics"])
    assert (demo / "mini-test" / "heatmaps.png").read_bytes().startswith(b"\x89PNG")
    with open(demo / "mini-test" / "scores.csv", newline="") as file:
        planned = [image for image in benchmark.plan("mini-test", 0) if image[1] == "test"]
        assert len(list(csv.DictReader(file))) == len(planned)

    page = (demo / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "the kit&#x27;s own mini CLIP, on generated images" in page
    for place in ("training", "mini-test", "mini-a/features"):
        record = json.loads((demo / place / "run.json").read_text())
        assert {"kit", "lock", "data", "weights", "settings", "seed", "device", "seconds"} <= set(record)
        assert record["peak_memory_mb"] > 100
        assert record["weights"]["trained"] is True


def test_the_command_says_what_the_demo_found(demo, capsys, monkeypatch):
    """With the finished run's own results: nothing is computed here."""
    content = json.loads((demo / "mini-test" / "metrics.json").read_text())
    result = Result("mini", demo, content["metrics"], content["label"])
    monkeypatch.setattr("fap_lib.runs.reproduce.demo", lambda: result)
    assert main(["demo"]) == 0
    means = {(row["level"], row["metric"]): 100 * row["value"] for row in result.metrics[-8:]}
    *_, note, last = capsys.readouterr().out.splitlines()
    assert note == "Note: the kit's own mini CLIP, on generated images."
    assert last.startswith(f"FAPrompt mini: image AUROC {means['image', 'auroc']:.1f}, pixel AUROC ")
    assert f"AUPRO {means['pixel', 'aupro_official']:.1f}, seconds " in last


@pytest.mark.skipif(not REAL.is_dir(), reason="the real raw datasets are not here")
def test_the_main_job_on_real_images():
    result = reproduce(REAL, "kvasir", ["brainmri"], "tiny", {"training": {"epochs": 1}})
    images = {(row["metric"], row["level"]): row for row in result.metrics if row["category"] == "mean"}
    assert images["auroc", "image"]["images"] == 98 + 155
    assert images["auroc", "pixel"]["value"] is None
    assert "have no mask" in images["auroc", "pixel"]["reason"]
    assert result.label == "random weights, these figures mean nothing"


def test_training_on_a_dataset_without_masks_ends_in_one_sentence(tmp_path):
    manifest = toy.write(tmp_path / "toy-aux", "toy-aux", each=2)
    meta = json.loads((manifest.root / "meta.json").read_text())
    for entries in meta["test"].values():
        for entry in entries:
            entry["mask_path"] = ""
    (manifest.root / "meta.json").write_text(json.dumps(meta))
    (manifest.root / "dataset.json").unlink()  # a manifest made elsewhere
    parameters = {"data": str(manifest.root), "profile": "tiny", "run": str(tmp_path / "run")}
    with pytest.raises(KitError, match=r"training needs masks.*notebook: "):
        run_notebook(TRAIN, parameters, tmp_path / "run")
    executed = (tmp_path / "run" / f"{TRAIN}.ipynb").read_text()
    assert "KitError" in executed, "the failed notebook keeps its traceback"


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("04_train_prompt", {}, "there is no notebook '04_train_prompt'"),
        (TRAIN, {"profil": "tiny"}, "has no parameter 'profil'; parameters: data, split, profile"),
    ],
)
def test_a_mistyped_name_ends_before_anything_runs(tmp_path, name, parameters, message):
    with pytest.raises(KitError, match=message):
        run_notebook(name, parameters, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_notebook_declares_parameters_and_checks_them():
    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        assert len(tagged) == 1, path.name
        after = code_cells(path)[1]
        assert ".from_notebook(globals())" in after, path.name


def test_the_same_seed_gives_the_same_figures(dataset, backbone, small, tmp_path):
    def figures(name: str) -> list[float]:
        torch.manual_seed(5)
        model = FAPrompt(backbone.text_tower, ModelSettings(deep_layers=2), backbone.patch_width)
        cache = features(dataset, "test", backbone, small)
        train(model, cache, TrainSettings(epochs=1), tmp_path / name)
        settings = ScoreSettings(sigma=2.0)
        scores = score(model, cache, settings, tmp_path / f"{name}.npy")
        return [row["value"] for row in evaluate(scores, settings)]

    assert figures("one") == figures("two")
