"""The wheel carries all that its commands need: notebooks, grids, profiles, weights, the study's runs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fap_lib.core import paths


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked as an installer would, away from the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=paths.REPOSITORY, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(installed: Path, home: Path, code: str) -> str:
    """What a piece of code prints that finds the wheel's packages and not the checkout's."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "FAP_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=installed, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_commands_need_is_in_the_wheel(installed, tmp_path):
    said = run(
        installed,
        tmp_path,
        "from fap_lib.core import paths; from fap_lib.lessons import study; from fap_lib.grids import grid\n"
        "from fap_lib.clip import mini\n"
        "print(paths.INSTALLED, paths.PACKAGE)\n"
        "runs = study.load_study()\n"
        "print(len([*paths.NOTEBOOKS.glob('*.ipynb')]), len(runs) > 1000, len(grid.presets()) > 10)\n"
        "print(grid.load_grid(paths.WORKFLOW / 'grids' / 'mini.yaml').profile, paths.GOLDEN.is_file())\n"
        "print((paths.SNAPSHOT / 'results').is_dir(), mini.prompts('paper').is_file())\n"
        "print((paths.KIT / 'benchmarks' / 'results' / 'paper.json').is_file())\n",
    ).splitlines()
    here = len(list(paths.NOTEBOOKS.glob("*.ipynb")))
    assert said == [f"True {installed / 'fap_lib'}", f"{here} True True", "mini True", "True True", "True"]


def test_the_wheel_has_no_outputs_of_runs_and_no_tests(installed):
    assert sorted(path.name for path in installed.iterdir() if not path.name.endswith("dist-info")) == [
        "data_prep",
        "fap_lib",
        "pretraining",
    ]
    assert not list(installed.rglob("__pycache__"))
    (metadata,) = installed.glob("*.dist-info/METADATA")
    assert "License-Expression: MIT" in metadata.read_text(encoding="utf-8")
    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert "fap = fap_lib.cli:main" in entry.read_text(encoding="utf-8")


def test_commands_run_from_the_wheel(installed, tmp_path):
    code = "import sys; from fap_lib.cli import main; sys.exit(main({}))"
    assert "mvtec" in run(installed, tmp_path, code.format(["data", "list"]))
    assert "patch-selection" in run(installed, tmp_path, code.format(["ledger"]))
