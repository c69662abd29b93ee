"""The authors' checkpoints through every way that takes them: `fap checkpoint`, `evaluate`, `score`, grids.

A `.pth` in the authors' format is drawn for the tiny CLIP. What each way must give are the scores of the
model with these very tensors, made without reading any file; that such a model computes what the authors'
code does is `test_parity`'s and `test_checkpoints`' part.
"""

import csv
import json
from pathlib import Path

import pytest
import torch
import toy
import yaml

from fap_lib.cli import main
from fap_lib.core import paths
from fap_lib.core.config import FeatureSettings, ModelSettings, load_profile
from fap_lib.core.errors import KitError
from fap_lib.core.files import sha256
from fap_lib.data.features import features
from fap_lib.data.manifest import read_manifest
from fap_lib.evaluation.scoring import score
from fap_lib.grids import grid, jobs, snakemake
from fap_lib.model import FAPrompt
from fap_lib.official import checkpoint, inspection


@pytest.fixture
def model(backbone) -> FAPrompt:
    """In `released` mode, with deep tokens as float16 holds them, which is all the official tower sees."""
    torch.manual_seed(7)
    drawn = FAPrompt(backbone.text_tower, ModelSettings(mode="released", deep_layers=2), backbone.patch_width)
    with torch.no_grad():
        drawn.prompts.deep.copy_(drawn.prompts.deep.half().float())
    return drawn


@pytest.fixture
def pth(model, tmp_path) -> Path:
    """The model as the authors' code saves one, with what it saves and never reads."""
    state = {"token_prefix_pos": torch.zeros(1, 1, 1, 64)}
    for name, value in model.state_dict().items():
        if name == "prompts.deep":
            state |= {checkpoint.official_name(name, layer): part.clone() for layer, part in enumerate(value)}
        else:
            extra = {"prompts.normal": (1, 1, *value.shape), "prompts.abnormal": (1, *value.shape)}
            state[checkpoint.official_name(name)] = value.clone().reshape(extra.get(name, value.shape))
    torch.save({"prompt_learner": state}, tmp_path / "epoch_15.pth")
    return tmp_path / "epoch_15.pth"


@pytest.fixture
def golden(model, backbone, profile, tmp_path) -> dict[str, float]:
    """What the model says of each image of `toy-test`, without any file of prompts."""
    manifest = toy.write(paths.data() / "toy-test", "toy-test", each=2)
    cache = features(manifest, "test", backbone, profile.features)
    found = score(model, cache, profile.scoring, tmp_path / "golden.npy")
    return {record.image: value for record, value in zip(cache.records, found.image, strict=True)}


def scores_of(path: Path) -> dict[str, float]:
    with open(path, encoding="utf-8", newline="") as file:
        return {row["image"]: float(row["score"]) for row in csv.DictReader(file)}


def assert_golden(found: dict[str, float], golden: dict[str, float]) -> None:
    assert found.keys() == golden.keys()
    assert [found[name] for name in golden] == pytest.approx(list(golden.values()), abs=2e-6)


def test_evaluate_gives_the_golden_scores_and_verdicts(pth, golden, capsys):
    folder = paths.runs() / "out"
    arguments = [
        "evaluate",
        str(pth),
        "--data",
        str(paths.data()),
        "--test",
        "toy-test",
        "--run",
        str(folder),
    ]
    assert main([*arguments, "--profile", "tiny"]) == 0
    said = capsys.readouterr().out
    assert f"SHA-256 {sha256(pth)}. Published: no: it is none of train_on_mvtecad.pth" in said
    assert "mode released" in said
    assert_golden(scores_of(folder / "toy-test" / "scores.csv"), golden)
    record = json.loads((folder / "toy-test" / "run.json").read_text())
    assert record["settings"]["model"]["mode"] == "released"
    assert record["prompts"]["sha256"] == sha256(pth)
    for name in (
        "report.html",
        "metrics.csv",
        "comparison.csv",
        "toy-test/heatmaps.png",
        "toy-test/patch_maps.npy",
    ):
        assert (folder / name).is_file(), name
    assert "prompts of epoch_15.pth" in (folder / "report.html").read_text()


def test_evaluate_refuses_prompts_of_another_clip_before_anything_runs(pth, capsys):
    toy.write(paths.data() / "toy-test", "toy-test", each=2)
    arguments = ["evaluate", str(pth), "--data", str(paths.data()), "--test", "toy-test"]
    assert main(arguments) == 2  # the authors' files belong to the profile paper
    assert (
        "learned on another CLIP than ViT-L-14-336-quickgelu: its prompts are 64 wide, and this text tower"
        in capsys.readouterr().err
    )
    assert not paths.runs().exists()


def test_a_converted_checkpoint_gives_the_golden_scores(pth, golden, backbone, profile, tmp_path, capsys):
    target = tmp_path / "converted.safetensors"
    assert main(["checkpoint", str(pth), "--to", str(target), "--profile", "tiny"]) == 0
    said = capsys.readouterr().out
    assert "the authors' checkpoint" in said
    assert "10 abnormality prompts of 5 + 2 tokens, 64 wide; 2 deep layers of 4 tokens" in said
    assert main(["checkpoint", str(target)]) == 0
    assert "a checkpoint of the kit" in capsys.readouterr().out
    assert inspection.profile_of(target) == "tiny"
    loaded = checkpoint.open_prompts(target, backbone)
    assert loaded.about["sha256"] == sha256(pth)
    cache = features(read_manifest(paths.data() / "toy-test"), "test", backbone, loaded.features)
    found = score(loaded.model, cache, profile.scoring, tmp_path / "maps.npy")
    assert found.image.tolist() == list(golden.values())
    with pytest.raises(KitError, match="is a checkpoint of the kit already"):
        inspection.convert(target, tmp_path / "again.safetensors", "tiny")


def test_score_takes_the_authors_file(pth, golden, tmp_path):
    images = paths.data() / "toy-test" / "dots" / "good"
    folder = tmp_path / "out"
    assert main(["score", str(images), "--prompts", str(pth), "--profile", "tiny", "--run", str(folder)]) == 0
    assert_golden(
        {f"dots/good/{name}": value for name, value in scores_of(folder / "scores.csv").items()},
        {name: value for name, value in golden.items() if name.startswith("dots/good/")},
    )


def write_grid(folder: Path, **changes: object) -> Path:
    content = {"profile": "tiny", "datasets": {"toy-aux": ["toy-test"]}, "modes": [], **changes}
    (folder / "own.yaml").write_text(yaml.safe_dump(content))
    return folder / "own.yaml"


def test_a_grid_of_given_prompts_gives_the_golden_scores(pth, golden, tmp_path):
    toy.write(paths.data() / "toy-aux", "toy-aux", each=2)
    chosen = grid.load_grid(write_grid(tmp_path, prompts={"toy-aux": str(pth)}))
    plan = grid.plan(chosen, tmp_path / "run")
    assert [job.name for job in plan] == [
        "features/toy-test",
        "evaluation/given/toy-aux/toy-test",
        "results",
    ]
    snakemake.write_plan(chosen, plan, tmp_path / "run", [])
    jobs.run_job(tmp_path / "run" / "jobs" / "evaluation" / "given" / "toy-aux" / "toy-test.json")
    assert_golden(scores_of(tmp_path / "run" / plan[1].name / "scores.csv"), golden)
    (row,) = plan[-1].facts["rows"]
    assert (row["method"], row["mode"], row["source"]) == ("faprompt", "released", "toy-aux")
    assert row["title"] == "FAPrompt, given prompts of toy-aux"

    # Another file under the same name is another job.
    state = torch.load(pth, weights_only=True)
    state["prompt_learner"]["ctx_pos"] += 1
    torch.save(state, pth)
    assert grid.plan(chosen, tmp_path / "run")[1] != plan[1]


def test_given_prompts_stand_beside_trained_ones(pth, tmp_path):
    toy.write(paths.data() / "toy-aux", "toy-aux", each=2)
    toy.write(paths.data() / "toy-test", "toy-test", each=2)
    chosen = grid.load_grid(write_grid(tmp_path, prompts={"toy-aux": str(pth)}, modes=["released"]))
    rows = grid.plan(chosen, tmp_path)[-1].facts["rows"]
    assert [row["title"] for row in rows] == ["FAPrompt, given prompts of toy-aux", "FAPrompt"]
    assert len({row["run"] for row in rows}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "neither modes to train in nor files of prompts"),
        ({"prompts": {"toy-aux": "no.pth"}}, "there are no prompts at .*no.pth"),
        ({"prompts": {"toy-test": "{pth}"}}, "has prompts learned on 'toy-test', but no datasets"),
        ({"prompts": {"toy-aux": "{pth}"}, "baselines": ["coop"]}, "trains nothing .*, but coop is learned"),
        (
            {"prompts": {"toy-aux": "{pth}"}, "profile": "mini"},
            "its prompts are 64 wide, and this text tower 128",
        ),
    ],
)
def test_a_grid_whose_prompts_cannot_be_used_ends_before_anything_runs(pth, tmp_path, changes, message):
    for name in ("toy-aux", "toy-test"):
        toy.write(paths.data() / name, name, each=2)
    if "prompts" in changes:
        changes = {**changes, "prompts": {k: v.format(pth=pth) for k, v in changes["prompts"].items()}}
    with pytest.raises(KitError, match=message):
        grid.load_grid(write_grid(tmp_path, **changes))


def test_the_official_grid_tests_both_checkpoints_on_all_targets():
    content = yaml.safe_load((paths.WORKFLOW / "grids" / "official.yaml").read_text())
    assert set(content["prompts"]) == set(content["datasets"]) == {"mvtec", "visa"}
    assert [Path(name).name for name in content["prompts"].values()] == list(checkpoint.OFFICIAL_SHA256)
    for source, targets in content["datasets"].items():
        assert len(targets) == len(set(targets)) == 18
        assert source not in targets
    assert load_profile(content["profile"]).features == FeatureSettings()
    grid.Grid.parse(content)
