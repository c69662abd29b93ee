"""The set-up cell for Colab and Kaggle, run in a clean environment, and the Dockerfile's commands."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from raw_layouts import RAW

import fap_lib
from fap_lib.clip import mini
from fap_lib.core import paths

ROOT = paths.REPOSITORY
SCRIPT = ROOT / "examples" / "run_elsewhere.sh"
NOTEBOOK = ROOT / "examples" / "run_elsewhere.ipynb"
PAGE = ROOT / "docs" / "run_elsewhere.md"

# `make setup` as the cell finds it: instead of packages to install, those of this environment.
MAKE = """#!/bin/bash
echo "make $*"
mkdir -p .venv/bin
for name in fap papermill jupyter gdown; do
  case $name in
    fap) module=fap_lib.cli ;;
    papermill) module=papermill ;;
    jupyter) module=jupyter_core.command ;;
    gdown) module=gdown ;;
  esac
  printf '#!/bin/bash\\nPATH={bin}:$PATH PYTHONPATH=%s exec {python} -m %s "$@"\\n' "$PWD" "$module" \\
    > .venv/bin/$name
  chmod +x .venv/bin/$name
done
"""


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A machine with nothing but the kit's published tag and the two downloads: its home folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout, so there is nothing to clone")
    git = ["git", "-c", "advice.detachedHead=false"]
    subprocess.run([*git, "clone", "--quiet", "--bare", str(ROOT), str(tmp_path / "kit.git")], check=True)
    tag = re.search(r"TAG:-(\S+)}", SCRIPT.read_text()).group(1)
    subprocess.run([*git, "-C", str(tmp_path / "kit.git"), "tag", "--force", tag], check=True)
    RAW["kvasir"](tmp_path / "raw")
    shutil.make_archive(str(tmp_path / "files" / "kvasir-seg"), "zip", tmp_path / "raw")
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(MAKE.format(bin=Path(sys.executable).parent, python=sys.executable))
    make.chmod(0o755)
    return tmp_path


def run(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{home / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "KIT": f"file://{home / 'kit.git'}",
        "FILES": str(home / "files"),
        **variables,
    }
    return subprocess.run(
        ["bash", str(SCRIPT)], cwd=home, env=environment, capture_output=True, text=True, timeout=240
    )


def test_the_cell_goes_from_a_tag_to_a_page(elsewhere):
    shutil.copy(mini.prompts("released"), elsewhere / "files" / "own.safetensors")
    done = run(elsewhere, PROMPTS="own.safetensors", PROFILE="mini")
    assert done.returncode == 0, done.stderr
    assert "make setup TORCH_BACKEND=auto" in done.stdout
    assert re.search(r"^sha256 +[0-9a-f]{64}$", done.stdout, re.MULTILINE)
    folder = elsewhere / "faprompt-kit" / "runs" / "elsewhere"
    executed = json.loads((folder / "00_start_here.ipynb").read_text())
    cells = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    assert "shown kvasir" in json.dumps(executed)
    assert "The method in one picture" in (folder / "00_start_here.html").read_text()


def test_a_file_that_is_not_the_authors_ends_the_cell(elsewhere):
    (elsewhere / "files" / "train_on_mvtecad.pth").write_bytes(b"something else")
    done = run(elsewhere)
    assert done.returncode != 0
    assert "is not the published train_on_mvtecad.pth: SHA-256" in done.stderr
    assert not list((elsewhere / "faprompt-kit").glob("runs/elsewhere/*"))


def test_the_notebook_has_the_scripts_lines_and_the_badges_lead_to_it():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    (cell,) = (source for source in map("".join, (each["source"] for each in cells)) if "%%bash" in source)
    assert cell == "%%bash\n" + SCRIPT.read_text().rstrip("\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    repository = project["urls"]["Repository"]
    tag = f"v{fap_lib.__version__}"
    assert f"KIT:-{repository}}}" in cell
    assert f"TAG:-{tag}}}" in cell
    assert "gdown" in project["optional-dependencies"]
    place = f"{repository.removeprefix('https://github.com/')}/blob/{tag}/{NOTEBOOK.relative_to(ROOT)}"
    for page in (PAGE, ROOT / "README.md"):
        text = page.read_text()
        assert f"https://colab.research.google.com/github/{place}" in text
        assert f"https://kaggle.com/kernels/welcome?src=https://github.com/{place}" in text


def test_the_container_is_built_by_the_readmes_commands():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    readme = (ROOT / "README.md").read_text()
    arguments = dict(line.split()[1].split("=") for line in lines if line.startswith("ARG"))
    (setup,) = (line.removeprefix("RUN ") for line in lines if line.startswith("RUN make"))
    (start,) = (json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD"))
    setup = setup.replace("${TORCH_BACKEND}", arguments["TORCH_BACKEND"])
    for command in (setup, " ".join(start)):
        assert command.split()[1] in targets
        assert re.search(rf"(`|^){command}(`|$)", readme, re.MULTILINE), command
    needed = re.search(r"You need Python [^,]*, (\w+) and (\w+)\.", readme).groups()
    (packages,) = (line for line in lines if "apt-get install" in line)
    assert {*needed, "python3", "python3-venv"} <= set(packages.split())
    for line in re.findall(r"docker build .*", PAGE.read_text()):
        assert set(re.findall(r"--build-arg (\w+)=", line)) <= set(arguments)


def test_the_container_takes_nothing_that_is_made_here():
    ignored = {line.strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    made = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line[:1] == "/"}
    assert made - {"docs/generated"} <= ignored
    assert {".git", ".venv"} <= ignored


@pytest.mark.skipif(not os.access("/bin/bash", os.X_OK), reason="no bash")
def test_the_script_is_valid_bash():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
