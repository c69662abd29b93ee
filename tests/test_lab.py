"""`fap lab`: copies that keep what a reader wrote."""

import json
import subprocess
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from fap_lib.cli import main
from fap_lib.core import paths
from fap_lib.lessons.copies import RECORD, copy_notebooks


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit of two notebooks."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "kit")
    for name in ("00_one", "01_two"):
        write(tmp_path / "kit" / f"{name}.ipynb", "first version")
    return tmp_path / "kit"


def write(path: Path, text: str, output: str = "") -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [text], "outputs": [output]}]}))


def text(path: Path) -> str:
    return json.loads(path.read_text())["cells"][0]["source"][0]


def test_an_edited_copy_is_never_overwritten(kit):
    folder = copy_notebooks().folder
    one, two = folder / "00_one.ipynb", folder / "01_two.ipynb"
    assert folder == paths.runs() / "lab"
    write(one, "my answer")
    write(two, "first version", "my output")
    again = copy_notebooks()
    assert [path.name for path in again.kept] == ["00_one.ipynb"]
    assert again.newer == []
    assert text(one) == "my answer"
    assert "my output" in two.read_text(), "a copy that only ran is left alone"

    for path in kit.glob("*.ipynb"):
        write(path, "second version")
    for _ in range(2):
        later = copy_notebooks()
        assert [path.name for path in later.kept] == ["00_one.ipynb"]
        assert [path.name for path in later.newer] == ["00_one.new.ipynb"]
        assert text(one) == "my answer"
        assert text(folder / "00_one.new.ipynb") == "second version"
        assert text(two) == "second version", "an untouched copy follows the kit"
    write(folder / "00_one.new.ipynb", "my second answer")
    assert [path.name for path in copy_notebooks().kept] == ["00_one.ipynb", "00_one.new.ipynb"]
    assert text(folder / "00_one.new.ipynb") == "my second answer"


@pytest.mark.parametrize("content", ["", "[]", "3", '{"00_one.ipynb": 7}', "{"])
def test_without_its_record_no_copy_is_overwritten(kit, content):
    folder = copy_notebooks().folder
    write(folder / "00_one.ipynb", "my answer")
    (folder / RECORD).write_text(content)
    assert [path.name for path in copy_notebooks().kept] == ["00_one.ipynb"]
    for path in kit.glob("*.ipynb"):
        write(path, "second version")
    copy_notebooks()
    assert text(folder / "00_one.ipynb") == "my answer"
    assert text(folder / "01_two.ipynb") == "second version", "it was as the kit's when the record was made"


@pytest.mark.usefixtures("kit")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3}'])
def test_a_copy_that_cannot_be_read_is_kept(content):
    folder = copy_notebooks().folder
    (folder / "00_one.ipynb").write_text(content)
    assert [path.name for path in copy_notebooks().kept] == ["00_one.ipynb"]
    assert (folder / "00_one.ipynb").read_text() == content


def test_the_kits_notebooks_are_copied_and_jupyterlab_opens_there(monkeypatch, capsys):
    server = MagicMock()
    server.return_value.__enter__.return_value.wait.side_effect = [KeyboardInterrupt, 0]  # one is asked about
    monkeypatch.setattr(subprocess, "Popen", server)
    assert main(["lab", "--", "--no-browser"]) == 0
    folder = paths.runs() / "lab"
    assert server.call_args.args[0][1:] == ["-m", "jupyterlab", str(folder), "--no-browser"]
    assert {path.name for path in folder.glob("*.ipynb")} == {
        path.name for path in paths.NOTEBOOKS.glob("*.ipynb")
    }
    assert str(folder) in capsys.readouterr().out
