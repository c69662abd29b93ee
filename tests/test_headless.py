"""The main job, end to end by papermill, on generated and on real images."""

import csv
import json
from dataclasses import replace

import nbformat
import pytest
import torch
import toy
from test_data import REAL

from data_prep.mini import benchmark, sets
from fap_lib.cli import main
from fap_lib.core import paths
from fap_lib.core.config import ModelSettings, ScoreSettings, TrainSettings
from fap_lib.core.errors import KitError
from fap_lib.data.features import features
from fap_lib.evaluation.scoring import evaluate, score
from fap_lib.model import FAPrompt
from fap_lib.runs.notebook import EVALUATE, FEATURES, TRAIN, code_cells, run_notebook
from fap_lib.runs.reproduce import reproduce
from fap_lib.training import train


def test_the_demo_leaves_one_complete_folder(capsys, monkeypatch):
    few = {name: replace(entry, good=6, each=1, train=0) for name, entry in sets.SETS.items()}
    monkeypatch.setattr(benchmark, "SETS", few)
    assert main(["demo"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("FAPrompt mini: image AUROC ")
    assert "pixel AUROC" in last
    assert "seconds" in last
    folder = paths.runs() / "demo"

    for name, place in ((FEATURES, "mini-a"), (TRAIN, "training"), (EVALUATE, "mini-test")):
        executed = nbformat.read(folder / place / f"{name}.ipynb", as_version=4)
        cells = [cell for cell in executed.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells), name
        text = json.dumps(executed)
        assert "it/s]" not in text, "a progress bar was stored"
        assert "application/vnd.jupyter.widget-view+json" not in text

    with open(folder / "mini-test" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["category"] for row in rows} == {*few["mini-test"].categories, "mean"}
    assert len(rows) == 9 * 8
    content = json.loads((folder / "mini-test" / "metrics.json").read_text())
    assert content["label"] == "generated images and the kit's own mini CLIP"
    assert all(0 <= row["value"] <= 1 for row in content["metrics"])
    assert (folder / "mini-test" / "heatmaps.png").read_bytes().startswith(b"\x89PNG")
    with open(folder / "mini-test" / "scores.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(benchmark.plan("mini-test", 0))

    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "generated images and the kit&#x27;s own mini CLIP" in page
    for place in ("training", "mini-test", "mini-a/features"):
        record = json.loads((folder / place / "run.json").read_text())
        assert {"kit", "lock", "data", "weights", "settings", "seed", "device", "seconds"} <= set(record)
        assert record["peak_memory_mb"] > 100
        assert record["weights"]["trained"] is True


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
