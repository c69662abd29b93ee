"""`fap doctor`: everything a grid lacks, at once."""

import json
import re

import pytest
import toy
import yaml

from fap_lib.cli import main
from fap_lib.core import paths
from fap_lib.grids import doctor


@pytest.fixture
def grid(tmp_path):
    """A grid of a prepared dataset, one that is not, and prompts that are not there."""
    toy.write(paths.data() / "toy-test", "toy-test", each=2)
    content = {
        "profile": "tiny",
        "datasets": {"mvtec": ["toy-test", "kvasir"]},
        "modes": [],
        "prompts": {"mvtec": "models/no.pth"},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "own.yaml"


def test_all_that_is_missing_is_named_at_once(grid, capsys):
    assert main(["doctor", str(grid)]) == 1
    said = capsys.readouterr().out
    assert "dataset toy-test" in said
    assert "8 test images" in said
    assert "fap data prepare kvasir" in said
    assert "there are no prompts at" in said
    assert main(["doctor", str(grid), "--json"]) == 1
    found = {each["what"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["dataset toy-test"]["state"] == "ok"
    assert found["dataset kvasir"]["state"] == found["prompts learned on mvtec"]["state"] == "missing"
    assert "not measured" in found["time"]["found"]


def test_a_grid_that_can_run(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "snakemake")
    assert main(["doctor", str(paths.WORKFLOW / "grids" / "ci.yaml")]) == 0
    findings = {each.what: each for each in doctor.examine(paths.WORKFLOW / "grids" / "ci.yaml")}
    assert re.search(r"mini-\w+ \d+ (s|min)", findings["time"].found)
    assert "images a second of benchmarks/results/mini.json" in findings["time"].found
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 1000}))
    assert main(["doctor", str(paths.WORKFLOW / "grids" / "ci.yaml")]) == 1


def test_the_papers_grid_without_anything(capsys):
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert said.count("not prepared") == 19
    assert "fap weights ViT-L-14-336-quickgelu" in said
